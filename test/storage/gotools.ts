/** Servers that are written in Go: built once per machine with its own `go`, into the cache folder of the tests. */
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface GoTool {
  /** Of the program, which is the last step of its module. */
  readonly name: string;
  /** Of its folder in the cache, where the program has too plain a name. */
  readonly folder?: string;
  readonly version: string;
  /** Of the command, whose last step is the name of the program. */
  readonly module: string;
}

export const VERSITYGW: GoTool = {
  name: 'versitygw',
  version: '1.8.0',
  module: 'github.com/versity/versitygw/cmd/versitygw',
};
/** Its repository is archived, and it takes ten minutes to build: `npm run test:minio`, and no part of `npm test`. */
export const MINIO: GoTool = {
  name: 'minio',
  version: '0.0.0-20260212201848-7aac2a2c5b7c',
  module: 'github.com/minio/minio',
};
export const FAKE_GCS: GoTool = {
  name: 'fake-gcs-server',
  version: '1.56.1',
  module: 'github.com/fsouza/fake-gcs-server',
};
/** The tool itself, which knows nothing of graphkeep. */
export const AGE: GoTool = { name: 'age', version: '1.3.2', module: 'filippo.io/age/cmd/age' };

export function toolsFolder(): string {
  const configured = process.env.XDG_CACHE_HOME;
  const base = configured !== undefined && configured !== '' ? configured : join(homedir(), '.cache');
  return join(base, 'graphkeep', 'tools');
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The program, or why there is none: its tests are then to be skipped. */
export async function ensureGoTool(tool: GoTool): Promise<{ program: string } | { skip: string }> {
  const folder = join(toolsFolder(), `${tool.folder ?? tool.name}-${tool.version}`);
  const program = join(folder, tool.name);
  if (await exists(program)) return { program };
  try {
    await build(tool, folder);
    return { program };
  } catch (error) {
    const detail = error instanceof Error ? error.message.slice(0, 300) : String(error);
    return { skip: `${tool.name} ${tool.version} cannot be built here: ${detail}` };
  }
}

async function build(tool: GoTool, folder: string): Promise<void> {
  await mkdir(toolsFolder(), { recursive: true });
  // Beside its place, so that the rename at the end is atomic.
  const temporary = await mkdtemp(join(toolsFolder(), `.build-${tool.name}-`));
  try {
    await run('go', ['install', '-trimpath', '-ldflags=-s -w', `${tool.module}@v${tool.version}`], {
      env: { ...process.env, GOBIN: temporary, CGO_ENABLED: '0' },
      maxBuffer: 64 * 1024 * 1024,
    });
    await rename(temporary, folder).catch(async (error: unknown) => {
      // Another process built it meanwhile: its result is as good as ours.
      if (!(await exists(join(folder, tool.name)))) throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
