/** How whoever reads an artifact gets its members. */
import type { MemberKind } from '../formats/artifact/index.ts';

/** Where a member belongs: log and checkpoint files go to the transaction folder, all others to the store folder. */
export interface MemberInfo {
  readonly path: string;
  readonly kind: MemberKind;
  readonly bytes: number;
}

/** Receives members one after the other; `content` may keep the buffer, it is not reused. */
export interface MemberHandler {
  begin(member: MemberInfo): Promise<void>;
  content(bytes: Buffer, positionBytes: number): Promise<void>;
  end(): Promise<void>;
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (bytes: number) => void;
}
