/** The program as a user runs it: its own process, by the launcher. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const PROGRAM = fileURLToPath(new URL('../../bin/graphkeep', import.meta.url));
/** Beside other suites, which fill the processors, a backup would hold itself back for minutes. */
export const AT_FULL_SPEED = '--cpu-share=100';
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function runProgram(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const options = { maxBuffer: OUTPUT_BYTES_MAX, env: { ...process.env, ...environment } };
  return new Promise((resolve) => {
    execFile(PROGRAM, [...args], options, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ status, stdout, stderr });
    });
  });
}
