/** Pages of a list: bounded, and none twice. */
import { GraphkeepError } from '../../errors.ts';
import { FOLDER_ENTRIES_MAX } from '../../limits.ts';
import type { StoreAddress } from './address.ts';

export class Pages {
  readonly #url: string;
  #entries = 0;
  #last: string | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  /** @throws GK_UNSUPPORTED */
  count(): void {
    this.#entries += 1;
    if (this.#entries > FOLDER_ENTRIES_MAX) {
      throw new GraphkeepError(
        'GK_UNSUPPORTED',
        `${this.#url} holds more than ${FOLDER_ENTRIES_MAX} objects`,
        {
          hint: 'keep the backups in a folder of their own',
        },
      );
    }
  }

  /** Where the next page begins. @throws GK_PROTOCOL when the store goes round in circles */
  next(token: string | undefined): string {
    if (token === undefined || token === '' || token === this.#last) {
      throw new GraphkeepError(
        'GK_PROTOCOL',
        `${this.#url}: the store says that there is more, but not where`,
        {
          hint: 'check that the endpoint is that of a store, and not of something in front of it',
        },
      );
    }
    this.#last = token;
    return token;
  }
}

/** Relative to the store's prefix; nothing for folders, which some tools keep as empty objects. */
export function keyBelow(address: StoreAddress, wholeKey: string): string | undefined {
  if (!wholeKey.startsWith(address.prefix) || wholeKey.endsWith('/')) return undefined;
  const key = wholeKey.slice(address.prefix.length);
  return key === '' ? undefined : key;
}
