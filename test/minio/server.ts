/** MinIO, another server of S3. */
import { ensureGoTool, MINIO } from '../storage/gotools.ts';
import { type RunningStore, startServer } from '../storage/servers.ts';
import { ACCESS_KEY, SECRET_KEY, s3Store } from '../storage/versity.ts';

export async function startMinio(): Promise<RunningStore | { skip: string }> {
  const tool = await ensureGoTool(MINIO);
  if ('skip' in tool) return tool;
  const server = await startServer(
    tool.program,
    (port, folder) => ['server', '--quiet', '--address', `127.0.0.1:${port}`, folder],
    { MINIO_ROOT_USER: ACCESS_KEY, MINIO_ROOT_PASSWORD: SECRET_KEY, MINIO_BROWSER: 'off' },
  );
  return { ...(await s3Store(server)), listsUploads: false, hidesLocked: true };
}
