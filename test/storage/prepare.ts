/** The servers of the object stores, built or installed one after the other, before tests that run at once ask for them. */
import { ensureAzurite } from './azurite.ts';
import { ensureGoTool, FAKE_GCS, VERSITYGW } from './gotools.ts';

/** Prints what cannot be had here; its tests are skipped and say so. */
export async function prepareStoreServers(): Promise<void> {
  for (const ensure of [() => ensureGoTool(VERSITYGW), () => ensureGoTool(FAKE_GCS), ensureAzurite]) {
    const tool = await ensure();
    if ('skip' in tool) console.log(tool.skip);
  }
}
