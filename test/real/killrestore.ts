/**
 * A restore that kills itself: `node killrestore.ts <artifact> <store folder> <log folder> <step>`. SIGKILL comes from
 * inside, just before the step with that number, so that every moment of the swap is hit and none by luck.
 */
import { basename } from 'node:path';
import { restoreDatabase } from '../../src/operations/restore.ts';

const [artifactPath, storeDirectory, logDirectory, killAtText] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
];
let step = 0;

await restoreDatabase(
  {
    artifactPath,
    target: { name: basename(storeDirectory), storeDirectory, logDirectory },
    overwriteDestination: true,
  },
  () => {
    if (step++ === Number(killAtText)) process.kill(process.pid, 'SIGKILL');
  },
);
