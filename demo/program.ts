/** Runs the real program, bin/graphkeep, as a user would, and reads the figures it prints with `--format=json`. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { killOnExit } from '../test/real/harness/server.ts';

const PROGRAM = fileURLToPath(new URL('../bin/graphkeep', import.meta.url));

export interface Outcome {
  readonly exitStatus: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Of the whole process, its start included. */
  readonly durationMs: number;
}

export function runProgram(args: readonly string[]): Promise<Outcome> {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    killOnExit(child);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ exitStatus: code ?? -1, stdout, stderr, durationMs: performance.now() - startedMs });
    });
  });
}

async function runForJson<Document>(
  args: readonly string[],
): Promise<{ document: Document; outcome: Outcome }> {
  const outcome = await runProgram([...args, '--format=json']);
  if (outcome.exitStatus !== 0) {
    throw new Error(
      `graphkeep ${args.join(' ')} ended with status ${outcome.exitStatus}:\n${outcome.stdout}${outcome.stderr}`,
    );
  }
  return { document: JSON.parse(outcome.stdout) as Document, outcome };
}

/** The fields that the demo shows; transaction ids are numbers in the JSON as long as they are exact. */
export interface BackupFigures {
  readonly artifactPath: string;
  readonly artifactBytes: number;
  readonly memberCount: number;
  readonly memberBytes: number;
  readonly storeBytes: number;
  readonly logBytes: number;
  readonly highestTransaction: number;
  readonly transactionsAfterFence: number;
  readonly attempts: number;
  readonly leftOut: readonly string[];
  /** Of the whole process. */
  readonly processMs: number;
}

export async function backup(homeFolder: string, targetFolder: string): Promise<BackupFigures> {
  const args = ['database', 'backup', `--neo4j-home=${homeFolder}`, `--to-path=${targetFolder}`, 'neo4j'];
  const { document, outcome } = await runForJson<{ backups: BackupFigures[] }>(args);
  return { ...document.backups[0]!, processMs: outcome.durationMs };
}

export interface ValidationFigures {
  readonly valid: boolean;
  readonly memberCount: number;
  readonly memberBytes: number;
  readonly transactionsChecked: number;
  readonly processMs: number;
}

/** All artifacts of a folder, as one: their sums, and whether each of them and the chain is valid. */
export async function validate(folder: string): Promise<ValidationFigures> {
  const args = ['backup', 'validate', folder];
  const { document, outcome } = await runForJson<{ valid: boolean; artifacts: ValidationFigures[] }>(args);
  const sumOf = (key: 'memberCount' | 'memberBytes' | 'transactionsChecked'): number =>
    document.artifacts.reduce((sum, artifact) => sum + artifact[key], 0);
  return {
    valid: document.valid,
    memberCount: sumOf('memberCount'),
    memberBytes: sumOf('memberBytes'),
    transactionsChecked: sumOf('transactionsChecked'),
    processMs: outcome.durationMs,
  };
}

export interface RestoreFigures {
  readonly memberCount: number;
  readonly memberBytes: number;
  readonly verifiedByHash: boolean;
  readonly processMs: number;
}

export async function restore(homeFolder: string, artifactPath: string): Promise<RestoreFigures> {
  const args = ['database', 'restore', `--neo4j-home=${homeFolder}`, `--from-path=${artifactPath}`];
  const { document, outcome } = await runForJson<{ restores: RestoreFigures[] }>(args);
  return { ...document.restores[0]!, processMs: outcome.durationMs };
}
