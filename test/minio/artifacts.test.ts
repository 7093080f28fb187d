/** Artifacts in MinIO. */
import { artifactSuite } from '../storage/artifacts.ts';
import { startMinio } from './server.ts';

artifactSuite('S3 (MinIO)', startMinio);
