/**
 * Which artifacts `backup copy` brings over, and in what order: each after all that it may build on, so that whatever is
 * there when a copy ends early can be restored.
 */
import path from 'node:path';
import { readRange } from '../artifact/bytes.ts';
import { catalogueOf, readCatalogue, type UnreadableArtifact } from '../chain/catalogue.ts';
import { follows, groupArtifacts, overlaps } from '../chain/chains.ts';
import { type ArtifactSummary, isEmptyDifferential } from '../chain/summary.ts';
import { GraphkeepError } from '../errors.ts';
import { isAge } from '../formats/age/header.ts';
import { databaseMatcher } from '../neo4j/glob.ts';
import type { ReadableFile } from '../storage/local.ts';
import { isFileAt, openPath } from '../storage/places.ts';
import { listConfigurationArtifacts, timeOfName } from './configurationnames.ts';
import { latestChainOf } from './inspect.ts';

export interface CopySelection {
  /** A folder of artifacts, or one of them. */
  readonly from: string;
  /** A name or pattern; without it all databases, and the configuration. */
  readonly database?: string;
  /** Of each database only the chain that ends at its newest artifact, or at the one that is given. */
  readonly latestChain: boolean;
}

export interface CopyItem {
  readonly path: string;
  readonly name: string;
  /** `encrypted`: nothing in it can be proven without its key. */
  readonly kind: 'full' | 'differential' | 'configuration' | 'encrypted';
  readonly database?: string;
  /** Paths: what it builds on, as far as that is copied as well. One of them has to be there first. */
  readonly needs: readonly string[];
  /** Why it cannot even be opened. */
  readonly problem?: GraphkeepError;
}

/** @throws GK_NOT_FOUND when there is nothing to copy, GK_CHAIN_BROKEN, GK_USAGE for an impossible pattern */
export async function selectForCopy(selection: CopySelection, signal?: AbortSignal): Promise<CopyItem[]> {
  const items = (await isFileAt(selection.from))
    ? await itemsOfFile(selection, signal)
    : await itemsOfFolder(selection, signal);
  if (items.length > 0) return items;
  const whose = selection.database === undefined ? '' : ` of database '${selection.database}'`;
  throw new GraphkeepError('GK_NOT_FOUND', `no artifact${whose} in ${selection.from}`);
}

async function itemsOfFile(
  { from, latestChain }: CopySelection,
  signal: AbortSignal | undefined,
): Promise<CopyItem[]> {
  if (timeOfName(path.basename(from)) !== undefined) return [await configurationItem(from)];
  const { artifacts, unreadable } = await catalogueOf([{ path: from }], signal);
  const [given] = artifacts;
  if (given === undefined || !latestChain)
    return [...inOrder(artifacts), ...(await itemsOfUnreadable(unreadable, latestChain))];
  const beside = await readCatalogue(path.dirname(from), signal);
  const isOfDatabase = isDatabase((name) => name === given.database.toLowerCase());
  return inOrder(latestChainOf(beside.artifacts.filter(isOfDatabase), given));
}

async function itemsOfFolder(selection: CopySelection, signal: AbortSignal | undefined): Promise<CopyItem[]> {
  const { from, database, latestChain } = selection;
  const matches = database === undefined ? () => true : databaseMatcher(database);
  const { artifacts, unreadable } = await readCatalogue(from, signal);
  const wanted = artifacts.filter(isDatabase(matches));
  const chosen = latestChain ? latestChainsOf(wanted) : wanted;
  // Whose an unreadable file is only its name may tell: one that tells nothing is not left out in silence.
  const unread = unreadable.filter(({ path: file }) => matches(databaseOfName(file) ?? '*'));
  const configurations = database === undefined ? await listConfigurationArtifacts(from) : [];
  return [
    ...inOrder(chosen),
    ...(await itemsOfUnreadable(unread, latestChain)),
    ...(await Promise.all(
      (latestChain ? configurations.slice(0, 1) : configurations.toReversed()).map(configurationItem),
    )),
  ];
}

const isDatabase =
  (matches: (name: string) => boolean) =>
  ({ database }: ArtifactSummary): boolean =>
    matches(database.toLowerCase());

function latestChainsOf(artifacts: readonly ArtifactSummary[]): ArtifactSummary[] {
  const byDatabase = Map.groupBy(artifacts, ({ database }) => database.toLowerCase());
  return [...byDatabase.values()].flatMap((ofDatabase) => latestChainOf(ofDatabase, undefined));
}

/** As backups name them; undefined for a file that somebody named otherwise. */
function databaseOfName(file: string): string | undefined {
  return /^(.+)-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.backup$/.exec(path.basename(file))?.[1]?.toLowerCase();
}

async function configurationItem(file: string): Promise<CopyItem> {
  const kind = (await isEncryptedAt(file)) ? 'encrypted' : 'configuration';
  return { path: file, name: path.basename(file), kind, needs: [] };
}

/** Group by group; whatever follows another artifact ends with a later transaction than that. */
function inOrder(artifacts: readonly ArtifactSummary[]): CopyItem[] {
  return groupArtifacts(artifacts).flatMap(({ artifacts: group }) =>
    group.toSorted(basesFirst).map((artifact) => artifactItem(artifact, group)),
  );
}

function basesFirst(left: ArtifactSummary, right: ArtifactSummary): number {
  const [leftEnd, rightEnd] = [endOf(left), endOf(right)];
  if (leftEnd !== rightEnd) return leftEnd < rightEnd ? -1 : 1;
  return rankOf(left) - rankOf(right) || (left.time?.getTime() ?? 0) - (right.time?.getTime() ?? 0);
}

function endOf(artifact: ArtifactSummary): bigint {
  return isEmptyDifferential(artifact) ? (artifact.parent?.appendIndex ?? 0n) : artifact.highestTransaction;
}

/** Where two end alike: a full one may be what the other begins with, and an empty one adds nothing to either. */
function rankOf(artifact: ArtifactSummary): number {
  if (artifact.full) return 0;
  return isEmptyDifferential(artifact) ? 2 : 1;
}

function artifactItem(artifact: ArtifactSummary, group: readonly ArtifactSummary[]): CopyItem {
  const { path: file, database, full } = artifact;
  const bases = group.filter((other) => follows(artifact, other) || overlaps(artifact, other));
  const needs = full ? [] : bases.map((base) => base.path);
  return { path: file, name: path.basename(file), kind: full ? 'full' : 'differential', database, needs };
}

/** Which of several encrypted ones belong to a chain is in them: then none is copied, and none is left out in silence. */
async function itemsOfUnreadable(
  unreadable: readonly UnreadableArtifact[],
  isChainAsked: boolean,
): Promise<CopyItem[]> {
  const items: CopyItem[] = [];
  for (const { path: file, code, message } of unreadable) {
    const item = { path: file, name: path.basename(file), needs: [] };
    if (code === 'GK_KEY_MISSING' || (await isEncryptedAt(file)))
      items.push({ ...item, kind: 'encrypted', ...(isChainAsked ? { problem: chainUnknown(file) } : {}) });
    else items.push({ ...item, kind: 'full', problem: new GraphkeepError(code, message) });
  }
  return items;
}

function chainUnknown(file: string): GraphkeepError {
  return new GraphkeepError(
    'GK_UNSUPPORTED',
    `${file} is encrypted: without its key nobody knows which chain it belongs to`,
    { hint: 'copy without --latest-chain: encrypted artifacts are copied as they are' },
  );
}

async function isEncryptedAt(file: string): Promise<boolean> {
  const opened = await openPath(file).catch(() => undefined);
  try {
    return opened !== undefined && (await isEncrypted(opened));
  } finally {
    await opened?.close();
  }
}

/** More than every age file begins with. */
const AGE_START_BYTES = 64;

/** Whether the stored bytes are ciphertext: whatever is known of keys, it is these bytes that are copied. */
export async function isEncrypted(file: ReadableFile): Promise<boolean> {
  return isAge(await readRange(file, 0, Math.min(AGE_START_BYTES, file.bytes)));
}
