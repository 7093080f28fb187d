/**
 * Short texts by number: what a store said of each part of an upload. A huge object has half a million, so those of
 * hexadecimal digits, which is nearly all, are kept as bytes outside the heap; as texts they would take four times as much.
 */
const HEXADECIMAL = /^([0-9a-f]{2})+$/;
const SLOTS_PER_PAGE = 4096;

export class Receipts {
  readonly #pages: (Buffer | undefined)[] = [];
  /** Of the first one that is hexadecimal; all of an upload look alike. */
  #packedBytes: number | undefined;
  readonly #others = new Map<number, string>();

  set(number: number, text: string): void {
    const isHexadecimal = HEXADECIMAL.test(text);
    if (isHexadecimal) this.#packedBytes ??= text.length / 2;
    if (!isHexadecimal || text.length / 2 !== this.#packedBytes) {
      this.#others.set(number, text);
      return;
    }
    this.#others.delete(number);
    this.#pages[pageOf(number)] ??= Buffer.alloc(SLOTS_PER_PAGE * (1 + this.#packedBytes));
    const slot = this.#slot(number);
    slot?.fill(1, 0, 1);
    slot?.write(text, 1, 'hex');
  }

  get(number: number): string | undefined {
    const slot = this.#slot(number);
    return this.#others.get(number) ?? (slot?.[0] === 1 ? slot.toString('hex', 1) : undefined);
  }

  /** Whether there is one, and its bytes. */
  #slot(number: number): Buffer | undefined {
    const slotBytes = 1 + (this.#packedBytes ?? 0);
    const start = (number % SLOTS_PER_PAGE) * slotBytes;
    return this.#pages[pageOf(number)]?.subarray(start, start + slotBytes);
  }
}

function pageOf(number: number): number {
  return Math.floor(number / SLOTS_PER_PAGE);
}
