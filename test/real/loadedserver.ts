/** What the suites of chains begin with: a server that keeps its log and is written to, and a judge of what is restored. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KEEPING_LOGS } from './chaincycle.ts';
import type { Line } from './harness/distribution.ts';
import { createJudge, type Judge } from './harness/judge.ts';
import { type Load, prepareSchema, startLoad } from './harness/load.ts';
import { createHome, type Home, type Server, scratchRoot, startServer } from './harness/server.ts';

/** Filled while it starts, so that what is there already is ended when the rest fails. */
export interface LoadedServer {
  readonly line: Line;
  judge: Judge;
  scratch: string;
  home: Home;
  server: Server;
  load: Load;
  /** Folder of the artifacts. */
  artifacts: string;
}

export const WRITER_PAUSE_MS = 10;

/** @param name of the scratch folder; @param warmUp transfers that are acknowledged before anything is backed up */
export async function startLoadedServer(
  story: LoadedServer,
  { name, writers, warmUp }: { name: string; writers: number; warmUp: number },
): Promise<void> {
  const { line } = story;
  story.judge = await createJudge(line);
  story.scratch = await mkdtemp(join(await scratchRoot(), `graphkeep-${name}-`));
  story.artifacts = join(story.scratch, 'artifacts');
  await mkdir(story.artifacts);
  story.home = await createHome({ line, dir: join(story.scratch, 'source'), ...KEEPING_LOGS });
  story.server = await startServer(story.home);
  await prepareSchema(story.server, { lucene: true });
  story.load = startLoad(story.server, { writers, vector: line !== '5.26', pauseMs: WRITER_PAUSE_MS });
  await story.load.waitForMore(warmUp);
}

export async function endServer({
  server,
  judge,
  scratch,
}: Pick<LoadedServer, 'server' | 'judge' | 'scratch'>): Promise<void> {
  await server.kill();
  await judge.close();
  await rm(scratch, { recursive: true, force: true });
}
