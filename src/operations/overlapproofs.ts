/**
 * Whether differentials go on from the full artifacts inside their range: the numbers fit, and the log says whether the
 * transactions are the same. Reading it costs as much as reading the differential, so it is done once per run.
 */
import { basename } from 'node:path';
import type { ArtifactSummary } from '../chain/summary.ts';
import { GraphkeepError } from '../errors.ts';
import type { OperationContext, ProgressListener } from './types.ts';
import { validateArtifact } from './validate.ts';

/** `overlaps` is true of the two. */
export interface Overlap {
  readonly differential: ArtifactSummary;
  readonly full: ArtifactSummary;
}

/** What the logs of the differentials say that were read, for as long as one command runs. */
export class OverlapProofs {
  /** By differential: checksums at the ends of full artifacts; undefined where its log does not hold that transaction. */
  readonly #checksums = new Map<string, Map<bigint, number | undefined>>();
  readonly #problems = new Map<string, string>();

  /** undefined as long as the differential was not read for this full artifact, and for good when it cannot be. */
  verdictOn({ differential, full }: Overlap): boolean | undefined {
    const checksums = this.#checksums.get(identityOf(differential));
    if (!checksums?.has(full.highestTransaction)) return undefined;
    return checksums.get(full.highestTransaction) === full.highestChecksum;
  }

  /** Why reading a differential tells nothing. */
  problemOf(differential: ArtifactSummary): string | undefined {
    return this.#problems.get(identityOf(differential));
  }

  /** Reads each differential once, for all the full artifacts inside it. @throws GK_INTERRUPTED */
  async read(overlaps: readonly Overlap[], { signal, listener }: OperationContext): Promise<void> {
    const byDifferential = Map.groupBy(overlaps, ({ differential }) => differential);
    const progress = progressOfAll([...byDifferential.keys()], listener);
    for (const [differential, own] of byDifferential) {
      const watched = new Set(own.map(({ full }) => full.highestTransaction));
      const context = { listener: progress.next(differential), ...(signal && { signal }) };
      await this.#readOne(differential, watched, context);
    }
  }

  async #readOne(
    differential: ArtifactSummary,
    watched: ReadonlySet<bigint>,
    context: OperationContext,
  ): Promise<void> {
    const identity = identityOf(differential);
    const reading = await checksumsIn(differential, watched, context);
    if ('problem' in reading) {
      const whatStays = `whatever ${basename(differential.path)} may build on stays`;
      this.#problems.set(identity, `${whatStays}: ${reading.problem}`);
      return;
    }
    const checksums = this.#checksums.get(identity) ?? new Map<bigint, number | undefined>();
    for (const appendIndex of watched) checksums.set(appendIndex, reading.seen.get(appendIndex));
    this.#checksums.set(identity, checksums);
  }
}

type Reading = { readonly problem: string } | { readonly seen: ReadonlyMap<bigint, number> };

/** Whatever keeps a differential from being read keeps it from proving anything, and no more than that. */
async function checksumsIn(
  differential: ArtifactSummary,
  watched: ReadonlySet<bigint>,
  context: OperationContext,
): Promise<Reading> {
  try {
    const result = await validateArtifact(differential.path, { ...context, watched });
    if (!result.valid) return { problem: result.problems[0]! };
    const isSame = result.summary !== undefined && identityOf(result.summary) === identityOf(differential);
    return isSame ? { seen: result.seenChecksums } : { problem: 'it was replaced meanwhile' };
  } catch (error) {
    if (!(error instanceof GraphkeepError) || error.code === 'GK_INTERRUPTED') throw error;
    return { problem: error.message };
  }
}

/** A file that was replaced under its name is another artifact. */
function identityOf({ path, bytes, parent, highestTransaction, highestChecksum }: ArtifactSummary): string {
  const range = [parent?.appendIndex, parent?.checksum, highestTransaction, highestChecksum];
  return [...range, bytes, path].join('|');
}

/** One listener for each file in turn, whose progress is a part of all of them. */
function progressOfAll(
  artifacts: readonly ArtifactSummary[],
  listener: ProgressListener | undefined,
): { next(artifact: ArtifactSummary): ProgressListener } {
  const expectedBytes = artifacts.reduce((sum, { memberBytes = 0 }) => sum + memberBytes, 0);
  let beforeBytes = 0;
  let ownBytes = 0;
  const progress = (event: { doneBytes: number }): void => {
    ownBytes = Math.max(ownBytes, event.doneBytes);
    const doneBytes = beforeBytes + event.doneBytes;
    const totalBytes = Math.max(expectedBytes, doneBytes);
    listener?.progress({ phase: 'proving overlaps', doneBytes, totalBytes });
  };
  return {
    next({ memberBytes = 0 }) {
      beforeBytes += ownBytes;
      ownBytes = memberBytes;
      return { progress, notice: (text) => listener?.notice(text) };
    },
  };
}
