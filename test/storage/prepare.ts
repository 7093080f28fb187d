/**
 * The servers of the object stores and the tool of age, built or installed one after the other, before tests that run at
 * once ask for them.
 */
import { ensureAzurite } from './azurite.ts';
import { AGE, ensureGoTool, FAKE_GCS, VERSITYGW } from './gotools.ts';

/** Prints what cannot be had here; its tests are skipped and say so. */
export async function prepareStoreServers(): Promise<void> {
  for (const ensure of [
    () => ensureGoTool(VERSITYGW),
    () => ensureGoTool(FAKE_GCS),
    () => ensureGoTool(AGE),
    ensureAzurite,
  ]) {
    const tool = await ensure();
    if ('skip' in tool) console.log(tool.skip);
  }
}
