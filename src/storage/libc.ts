/**
 * The door to the two system calls that Node has no function for: `fcntl` locks and `renameat2`. Only 64-bit Linux
 * on x64 and arm64 is served: structure layout and call numbers were written down for these.
 */
import os from 'node:os';
import util from 'node:util';
import { GraphkeepError } from '../errors.ts';
import { type Koffi, loadKoffi } from './koffi.ts';

/** `struct flock` of 64-bit Linux. */
export interface FlockStructure {
  l_type: number;
  l_whence: number;
  l_start: number;
  l_len: number;
  l_pid: number;
}

interface LibraryCalls {
  /** 0, or the errno. `lock` is changed in place by F_GETLK. */
  fcntl(descriptor: number, command: number, lock: FlockStructure): number;
  /** 0, or the errno. */
  renameat2(from: string, to: string, flags: number): number;
}

const RENAMEAT2_CALL_NUMBERS: Readonly<Record<string, number>> = { x64: 316, arm64: 276 };
const AT_FDCWD = -100;

let loaded: LibraryCalls | undefined;

/** @throws GraphkeepError GK_UNSUPPORTED on another platform or when the native module cannot be loaded. */
export function libraryCalls(): LibraryCalls {
  loaded ??= load();
  return loaded;
}

/** The name (`EAGAIN`) of an errno. */
export function errnoName(errno: number): string {
  try {
    return util.getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

/** An error as Node's own file functions throw it, so that the common wrapping by errno applies. */
export function errnoError(errno: number, call: string, file: string): Error {
  const code = errnoName(errno);
  return Object.assign(new Error(`${code}: ${call} '${file}'`), {
    code,
    errno: -errno,
    syscall: call,
    path: file,
  });
}

function load(): LibraryCalls {
  const renameNumber = RENAMEAT2_CALL_NUMBERS[process.arch];
  if (process.platform !== 'linux' || renameNumber === undefined || os.endianness() !== 'LE') {
    throw new GraphkeepError(
      'GK_UNSUPPORTED',
      `file locks are not supported on ${process.platform} ${process.arch}`,
      {
        hint: 'run graphkeep on 64-bit Linux (x64 or arm64)',
      },
    );
  }
  const koffi = koffiForLocks();
  const library = koffi.load(null);
  koffi.struct('graphkeep_flock', {
    l_type: 'int16',
    l_whence: 'int16',
    l_start: 'int64',
    l_len: 'int64',
    l_pid: 'int32',
  });
  const fcntl = library.func('int fcntl(int descriptor, int command, _Inout_ graphkeep_flock *lock)');
  // Through syscall(), because older C libraries have no renameat2 of their own.
  const syscall = library.func(
    'long syscall(long number, int fromFd, str from, int toFd, str to, uint32 flags)',
  );
  return {
    fcntl: (descriptor, command, lock) => (fcntl(descriptor, command, lock) === -1 ? koffi.errno() : 0),
    renameat2: (from, to, flags) =>
      Number(syscall(renameNumber, AT_FDCWD, from, AT_FDCWD, to, flags)) === -1 ? koffi.errno() : 0,
  };
}

function koffiForLocks(): Koffi {
  try {
    return loadKoffi();
  } catch (error) {
    throw new GraphkeepError(
      'GK_UNSUPPORTED',
      'the native module for file locks (koffi) could not be loaded',
      {
        hint: 'install graphkeep again with its dependencies, on the machine that runs it',
        cause: error,
      },
    );
  }
}
