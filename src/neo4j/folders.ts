/** The two folders of one database. They exist or not; whoever needs them says so. */
export interface DatabaseFolders {
  readonly name: string;
  /** `data/databases/<name>` */
  readonly storeDirectory: string;
  /** `data/transactions/<name>` */
  readonly logDirectory: string;
}
