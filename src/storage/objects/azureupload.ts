/**
 * An upload to Azure: blocks with names of their own, and a list that says which of them are the object. A part that is
 * sent again is another block, so that nothing that arrives late can take its place.
 */
import { AZURE_BLOCK_BYTES_MAX, AZURE_BLOCKS_MAX } from '../../limits.ts';
import { type AzureStore, md5 } from './azure.ts';
import { azureAttributes, encryptionScope } from './azureclient.ts';
import { notAStore } from './failures.ts';
import { Flights } from './flights.ts';
import { choosePartBytes, type PartLimits, PartTable } from './parts.ts';
import { abortable, checkWhole } from './requests.ts';
import { type Upload, type UploadOptions, WRITE_MARK } from './store.ts';
import { digits, newUploadId, startOfUpload } from './uploadsfolder.ts';

export const AZURE_LIMITS: PartLimits = { partsMax: AZURE_BLOCKS_MAX, partBytesMax: AZURE_BLOCK_BYTES_MAX };

export async function beginAzureUpload(
  store: AzureStore,
  key: string,
  options: UploadOptions,
): Promise<Upload> {
  store.blob(key); // a key that cannot be is told now
  azureAttributes(options, {});
  return new AzureUpload(store, key, newUploadId(), options);
}

/** The upload that a block belongs to, unless it is not one of ours. */
export function uploadOfBlock(name: string): { id: string; started: Date } | undefined {
  const [id = ''] = Buffer.from(name, 'base64').toString('latin1').split('-');
  const started = startOfUpload(id);
  return started === undefined ? undefined : { id, started };
}

class AzureUpload implements Upload {
  readonly id: string;
  readonly partBytes: number;
  readonly #store: AzureStore;
  readonly #key: string;
  readonly #options: UploadOptions;
  readonly #parts: PartTable;
  readonly #flights = new Flights();
  #blocks = 0;

  constructor(store: AzureStore, key: string, id: string, options: UploadOptions) {
    this.id = id;
    this.partBytes = choosePartBytes(options.bytesExpected, AZURE_LIMITS);
    this.#store = store;
    this.#key = key;
    this.#options = options;
    this.#parts = new PartTable(this.partBytes, AZURE_BLOCKS_MAX);
  }

  async putPart(number: number, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    this.#parts.check(number, bytes.length);
    this.#blocks += 1;
    const name = this.#blockName(number, this.#blocks);
    const scope = encryptionScope(this.#options);
    const checked = {
      transactionalContentMD5: md5(bytes),
      ...(scope === undefined ? {} : { encryptionScope: scope }),
    };
    const what = `write part ${number} of ${this.#store.url}${this.#key}`;
    await this.#flights.fly(signal, async (abortSignal) => {
      // A block of no bytes is refused; an object can have none at the end all the same.
      if (bytes.length > 0) {
        const answer = await this.#store.run({ what }, abortSignal, () =>
          this.#store
            .blob(this.#key)
            .stageBlock(name, bytes, bytes.length, { ...checked, ...abortable(abortSignal) }),
        );
        if (answer.requestId === undefined) throw notAStore(this.#store.url, what);
      }
      this.#parts.sent(number, bytes.length, bytes.length > 0 ? name : '');
    });
  }

  /** All names of blocks of one blob must have the same length, also those of uploads that were killed long ago. */
  #blockName(number: number, block: number): string {
    return Buffer.from([this.id, digits(number), digits(block)].join('-')).toString('base64');
  }

  async complete(
    partCount: number,
    { ifAbsent, signal }: { readonly ifAbsent: boolean; readonly signal?: AbortSignal },
  ): Promise<boolean> {
    const bytes = this.#parts.bytesOf(partCount);
    const blocks = this.#parts.receipts(1, partCount + 1).filter((name) => name !== '');
    const request = {
      ...azureAttributes(this.#options, { [WRITE_MARK]: this.id }),
      ...this.#store.condition({ ifAbsent }),
      ...abortable(signal),
    };
    const blob = this.#store.blob(this.#key);
    const isDone = await this.#store.run({ what: `publish ${this.#store.url}${this.#key}` }, signal, () =>
      this.#store.settle(this.#key, this.id, ifAbsent, () => blob.commitBlockList(blocks, request), signal),
    );
    if (!isDone) {
      await this.abort();
      return false;
    }
    await this.#flights.end();
    await checkWhole(this.#store, this.#key, bytes, signal);
    return true;
  }

  async abort(): Promise<void> {
    if (!(await this.#flights.end())) return;
    // Another upload to the same key may be under way: throwing away its blocks would end it.
    const staged = await this.#store.stagedUploads(this.#key, undefined);
    if (staged.every(({ id }) => id === this.id)) await this.#store.abortUpload(this.#key, this.id);
  }
}
