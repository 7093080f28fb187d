/** `npm run test:minio`: the suites of the object stores against MinIO, which is built with Go on the first run. */
import { startMinio } from '../test/minio/server.ts';
import { runPlan } from './runner.ts';

const started = await startMinio();
if ('stop' in started) await started.stop();
await runPlan({ tools: [], phases: [{ files: ['test/minio/*.test.ts'], filesAtOnce: 1 }] });
