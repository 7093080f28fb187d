/** `backup copy`: artifacts from one folder or store to another, proven on the way. */
import path from 'node:path';
import type { Command } from 'commander';
import { ERROR_TABLE } from '../errors.ts';
import type { ArtifactCopyOptions, CopiedArtifact } from '../operations/artifactcopy.ts';
import { resolvePath } from '../storage/places.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import {
  addCommonOptions,
  booleanOption,
  choiceOption,
  parsePlace,
  rateOption,
  refusedOption,
  usageError,
} from './options.ts';
import { isFolder, requireFolder } from './paths.ts';
import { formatBytes, formatDuration } from './render.ts';
import { addWritableStoreOptions } from './storeoptions.ts';
import {
  printJsonSummary,
  printSeveralSummary,
  type WorkItem,
  type WorkOutcome,
  workThrough,
} from './work.ts';

interface CopyCommandOptions {
  database?: string;
  latestChain: boolean;
  verify: 'QUICK' | 'FULL';
  limitRate?: number;
  dryRun: boolean;
  format?: string;
  verbose: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep backup copy /backups s3://offsite/backups
  $ graphkeep backup copy /backups azb://account/offsite/backups --database=neo4j --latest-chain
  $ graphkeep backup copy /backups gs://offsite/backups --limit-rate=50M
  $ graphkeep backup copy s3://onsite@backups/neo4j s3://cloud@offsite/neo4j    two S3, by profiles of the AWS files
  $ graphkeep backup copy /backups s3://offsite/backups --dry-run

Nothing at the target is ever replaced. What is there already is compared by size, head and the hashes of all
it holds, and passed over: run the same command again to go on with a copy that ended early, or to bring what
is new. A damaged artifact is not copied, nor what builds on it; the others are. Configuration artifacts go
along unless --database is given.
Exit status: 0 when all is at the target, 65 when an artifact is damaged, 73 when another file has the name of
one, otherwise the status of the first error.
`;

export function addBackupCopy(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('copy')
    .summary('Copy artifacts to another folder or store')
    .description(
      'Copies artifacts as they are between folders, s3://, gs:// and azb://. Every byte is proven on the way.',
    )
    .argument('<from>', 'folder of artifacts, or one of them')
    .argument('<to>', 'existing folder, or a folder of a store')
    .option('--database <database>', "Only this database, or those that fit a pattern such as 'n*'")
    .addOption(
      booleanOption(
        '--latest-chain',
        'Only the chain that ends at the newest artifact of each database, or at the given file',
        false,
      ),
    )
    .addOption(
      choiceOption(
        '--verify',
        'QUICK compares what is at the target; FULL reads all of it, new copies included',
        ['QUICK', 'FULL'],
        'QUICK',
      ),
    )
    .addOption(rateOption('--limit-rate', 'Read at most this much a second, e.g. 50M'))
    .addOption(booleanOption('--dry-run', 'Only say what would be copied', false))
    .addOption(choiceOption('--format', 'Form of the output', ['TEXT', 'JSON'], 'TEXT'))
    .addOption(
      refusedOption('--additional-config', 'no configuration is read: an artifact describes itself'),
    );
  addWritableStoreOptions(command, context, ({ args: [, to] }) => [to]);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (from: string, to: string, options: CopyCommandOptions) => {
    const places = { from: parsePlace('<from>', from), to: parsePlace('<to>', to) };
    outcome.exitStatus = await runCopy(places, options, context);
  });
}

async function runCopy(
  places: { readonly from: string; readonly to: string },
  options: CopyCommandOptions,
  context: CliContext,
): Promise<number> {
  const { format, database, latestChain, verify, dryRun, limitRate } = options;
  const json = format === 'JSON';
  const from = resolvePath(places.from);
  const isWhole = await isFolder(from, '<from>');
  const to = await requireFolder(places.to, '<to>', 'create the folder first');
  refuseContradictions({ from, to, isWhole }, options);
  const { ArtifactCopies } = await import('../operations/artifactcopy.ts');
  const what: ArtifactCopyOptions = {
    ...{ from, to, latestChain, dryRun, verifyTarget: verify === 'FULL' },
    ...(database === undefined ? {} : { database }),
    ...(limitRate === undefined ? {} : { rateBytesPerSecond: limitRate }),
  };
  const copies = await ArtifactCopies.begin(what);
  const items = copies.items.map(
    (item): WorkItem<CopiedArtifact> => ({
      subject: item.name,
      run: ({ signal, progress }) => copies.copy(item, { signal, listener: progress }),
    }),
  );
  try {
    const summary = await workThrough(items, {
      context,
      talk: !json,
      verbose: isVerbose(options, context),
      doing: 'copy the artifact',
      print: json ? undefined : (result) => writeLine(context.stdout, lineOf(result)),
      statusOf: statusOfCopies,
    });
    if (json) printJsonSummary(context, 'copies', summary);
    else {
      printSeveralSummary(context, summary, dryRun ? 'artifacts looked at' : 'artifacts are at the target');
      if (!isWhole && !latestChain) hintAtChain(summary.outcomes, context);
    }
    return summary.exitStatus;
  } finally {
    copies.end();
  }
}

function refuseContradictions(
  { from, to, isWhole }: { from: string; to: string; isWhole: boolean },
  { database }: CopyCommandOptions,
): void {
  if (from === to || (!isWhole && path.dirname(from) === to))
    throw usageError('<from> and <to> are one folder', 'give another folder as <to>');
  if (!isWhole && database !== undefined)
    throw usageError('--database chooses among the artifacts of a folder', 'leave it out: one file is given');
}

/** Damage comes first: it is what somebody has to look at. What could not follow it failed later. */
function statusOfCopies(outcomes: readonly WorkOutcome<CopiedArtifact>[]): number {
  const errors = outcomes.flatMap((outcome) => outcome.error ?? []);
  const damaged = errors.find(({ code }) => code === 'GK_ARTIFACT_CORRUPT' || code === 'GK_STORE_DAMAGED');
  if (damaged !== undefined) return ERROR_TABLE.GK_ARTIFACT_CORRUPT.exitStatus;
  return errors[0]?.exitStatus ?? 0;
}

const ACTIONS: Readonly<Record<CopiedArtifact['action'], string>> = {
  copied: 'copied',
  present: 'there already',
  planned: 'to be copied',
};
const ACTION_COLUMNS = 13;

function lineOf({ action, targetPath, bytes, durationMs, proven, kind }: CopiedArtifact): string {
  const facts = [formatBytes(bytes)];
  if (action === 'copied') facts.push(formatDuration(durationMs));
  if (kind === 'encrypted') facts.push('encrypted: copied as it is, unproven');
  else if (action === 'present') facts.push(proven ? 'every byte proven' : 'the same by size and hashes');
  return `${ACTIONS[action].padEnd(ACTION_COLUMNS)}  ${targetPath}  (${facts.join(', ')})`;
}

function hintAtChain(outcomes: readonly WorkOutcome<CopiedArtifact>[], context: CliContext): void {
  if (outcomes.every(({ result }) => result?.kind !== 'differential')) return;
  writeLine(
    context.stderr,
    'note: it is differential: what it builds on is needed as well, and --latest-chain copies that, too',
  );
}
