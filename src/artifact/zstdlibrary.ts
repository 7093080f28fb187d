/**
 * The zstd library that Node carries, called without Node's streams around it: these allocate anew for every frame what
 * only the garbage collector takes back, and a sixth of a backup's processor time went there. A context is used again,
 * but each call of the library is one whole frame.
 */
import type { KoffiFunc } from 'koffi';
import { FRAME_RAW_BYTES, FRAMES_IN_FLIGHT_MAX } from '../limits.ts';
import { type Library, loadKoffi } from '../storage/koffi.ts';
import { storedBytesMax } from './frame.ts';
import type { Zstd } from './zstd.ts';

/** Of zstd.h. */
const COMPRESSION_LEVEL = 100;
const CHECKSUM_FLAG = 201;
/** 1.4.0: since then these functions are there to stay. */
const VERSION_MIN = 10_400;

type Size = number | bigint;
/** A pointer that means nothing here. */
type Context = bigint;
type FrameCall = (
  context: Context,
  target: Buffer,
  targetBytes: number,
  source: Buffer,
  sourceBytes: number,
) => Size;

interface Functions {
  readonly createCompression: () => Context | null;
  readonly createDecompression: () => Context | null;
  readonly setParameter: (context: Context, parameter: number, value: number) => Size;
  readonly compress: KoffiFunc<FrameCall>;
  readonly decompress: KoffiFunc<FrameCall>;
  readonly isError: (size: Size) => number;
  readonly errorName: (size: Size) => string;
}

/** undefined where it cannot be called: no koffi for this platform, or a Node that keeps these functions to itself. */
export function loadZstdLibrary(): Zstd | undefined {
  try {
    const functions = functionsOf(loadKoffi().load(null));
    return functions === undefined ? undefined : libraryOf(functions);
  } catch {
    return undefined;
  }
}

/** @returns undefined for a version that is too old; @throws an Error when a function is missing */
function functionsOf(library: Library): Functions | undefined {
  const version = library.func('unsigned int ZSTD_versionNumber()') as () => number;
  if (version() < VERSION_MIN) return undefined;
  const frame = 'void *context, void *target, size_t targetBytes, const void *source, size_t sourceBytes';
  return {
    createCompression: library.func('void *ZSTD_createCCtx()'),
    createDecompression: library.func('void *ZSTD_createDCtx()'),
    setParameter: library.func('size_t ZSTD_CCtx_setParameter(void *context, int parameter, int value)'),
    compress: library.func(`size_t ZSTD_compress2(${frame})`) as KoffiFunc<FrameCall>,
    decompress: library.func(`size_t ZSTD_decompressDCtx(${frame})`) as KoffiFunc<FrameCall>,
    isError: library.func('unsigned int ZSTD_isError(size_t size)'),
    errorName: library.func('const char *ZSTD_getErrorName(size_t size)'),
  };
}

/** A context, and the memory that frames are made in. */
interface Workshop {
  readonly context: Context;
  readonly memory: Buffer;
}

function libraryOf(functions: Functions): Zstd {
  const { createCompression, createDecompression, setParameter } = functions;
  const workshops = new Pool<Workshop>(() => {
    const context = made(createCompression());
    checked(functions, setParameter(context, CHECKSUM_FLAG, 1));
    return { context, memory: Buffer.allocUnsafe(storedBytesMax(FRAME_RAW_BYTES)) };
  });
  const decompressions = new Pool<Context>(() => made(createDecompression()));
  return {
    compress: (content, level, use) =>
      workshops.with(async ({ context, memory }) => {
        checked(functions, setParameter(context, COMPRESSION_LEVEL, level));
        const isFrame = content.length <= FRAME_RAW_BYTES;
        const room = isFrame ? memory : Buffer.allocUnsafe(storedBytesMax(content.length));
        return use(await callAside(functions, functions.compress, context, room, content));
      }),
    decompress: (stored, rawBytesMax) =>
      decompressions.with((context) => {
        const room = Buffer.allocUnsafe(rawBytesMax);
        return callAside(functions, functions.decompress, context, room, stored);
      }),
  };
}

/** What another thread reads and writes: the garbage collector must not take it meanwhile. */
const inUse = new Set<readonly Buffer[]>();

/** Calls in another thread. @returns the part of `target` that was filled */
async function callAside(
  functions: Functions,
  call: KoffiFunc<FrameCall>,
  context: Context,
  target: Buffer,
  source: Buffer,
): Promise<Buffer> {
  const memories = [target, source];
  inUse.add(memories);
  try {
    const size = await new Promise<Size>((resolve, reject) => {
      call.async(context, target, target.length, source, source.length, (error: Error | null, result) =>
        error === null ? resolve(result) : reject(error),
      );
    });
    return target.subarray(0, checked(functions, size));
  } finally {
    inUse.delete(memories);
  }
}

/** What the library gives back is a number of bytes, or an error among the largest numbers. */
function checked({ isError, errorName }: Functions, size: Size): number {
  if (isError(size) !== 0) throw new Error(errorName(size));
  return Number(size);
}

function made(context: Context | null): Context {
  if (context === null) throw new Error('there is no memory for zstd');
  return context;
}

/** As many as work at once; who finds none waits for its turn. */
class Pool<Item> {
  readonly #make: () => Item;
  readonly #idle: Item[] = [];
  readonly #waiting: ((item: Item) => void)[] = [];
  #count = 0;

  constructor(make: () => Item) {
    this.#make = make;
  }

  async with<Result>(use: (item: Item) => Promise<Result>): Promise<Result> {
    const item = await this.#take();
    try {
      return await use(item);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#idle.push(item);
      else next(item);
    }
  }

  #take(): Item | Promise<Item> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#count === FRAMES_IN_FLIGHT_MAX) return new Promise((resolve) => this.#waiting.push(resolve));
    const item = this.#make();
    this.#count += 1;
    return item;
  }
}
