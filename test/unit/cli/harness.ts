/** Runs command lines in this process with streams that remember, so that tests see exactly what a user sees. */
import { openSync } from 'node:fs';
import type { CliContext, OutputStream } from '../../../src/cli/context.ts';
import { runCli } from '../../../src/cli/program.ts';
import type { ArtifactSummary } from '../../../src/operations/types.ts';

/** No terminal, whatever the tests are run in. */
const NOWHERE = openSync('/dev/null', 'r+');

export interface MemoryStream extends OutputStream {
  text: string;
}

export function memoryStream(terminal?: { columns: number }): MemoryStream {
  return {
    text: '',
    isTTY: terminal !== undefined,
    columns: terminal?.columns,
    write(text: string) {
      this.text += text;
    },
  };
}

export interface CliRun {
  readonly exitStatus: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function memoryContext(environment: Record<string, string> = {}): CliContext & {
  stdout: MemoryStream;
  stderr: MemoryStream;
} {
  const controller = new AbortController();
  return {
    stdout: memoryStream(),
    stderr: memoryStream(),
    environment,
    descriptors: { input: NOWHERE, output: NOWHERE },
    lowerPriority: () => {},
    watchSignals: () => ({ signal: controller.signal, exitStatus: () => undefined, stop() {} }),
  };
}

export async function cli(
  argumentList: string[],
  environment: Record<string, string> = {},
  more: Partial<Pick<CliContext, 'descriptors'>> = {},
): Promise<CliRun> {
  const context = { ...memoryContext(environment), ...more };
  const exitStatus = await runCli(argumentList, context);
  return { exitStatus, stdout: context.stdout.text, stderr: context.stderr.text };
}

export function artifact(overrides: Partial<ArtifactSummary> = {}): ArtifactSummary {
  return {
    path: '/backups/neo4j-2024-10-07T16-05-37.backup',
    bytes: 1000,
    database: 'neo4j',
    databaseId: '7dcb1d0c-4374-4062-b46b-1c6ab9a2be41',
    time: new Date('2024-10-07T16:05:37Z'),
    full: true,
    compressed: true,
    recovered: true,
    lowestTransaction: 1n,
    highestTransaction: 3n,
    storeIdHash: -116350002,
    storeKey: '1:2:record:aligned',
    container: 'BZV2',
    indexed: true,
    ...overrides,
  };
}
