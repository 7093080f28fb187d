import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { exchangePaths } from '../../../src/neo4j/renames.ts';
import { isLocked, lockHolder, tryLock } from '../../../src/storage/locks.ts';

const root = mkdtempSync(path.join(os.tmpdir(), 'graphkeep-locks-'));
const children = new Set<ChildProcess>();
// A failed assertion leaves its child behind, and the child would keep the test run alive.
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(root, { recursive: true });
});

let files = 0;
function newFile(): string {
  files += 1;
  const file = path.join(root, `lock${files}`);
  writeFileSync(file, '');
  return file;
}

/** Other programs that take the lock: each prints `locked` or `busy`, and holds it until its input ends. */
const PYTHON = `
import fcntl, sys
file = open(sys.argv[1], 'r+')
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print('locked', flush=True)
except OSError:
    print('busy', flush=True)
sys.stdin.read()
`;

const JAVA = `
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
public class Lock {
  public static void main(String[] arguments) throws Exception {
    FileChannel channel = FileChannel.open(Path.of(arguments[0]), StandardOpenOption.READ, StandardOpenOption.WRITE);
    System.out.println(channel.tryLock() == null ? "busy" : "locked");
    while (System.in.read() != -1) { }
  }
}
`;

const javaSource = path.join(root, 'Lock.java');
writeFileSync(javaSource, JAVA);

const OTHERS: [string, string, (file: string) => string[]][] = [
  ['Python lockf', 'python3', (file) => ['-c', PYTHON, file]],
  ['Java FileChannel.tryLock', 'java', (file) => [javaSource, file]],
];

async function startOther(
  program: string,
  argumentList: string[],
): Promise<{ child: ChildProcess; answer: string }> {
  const child = spawn(program, argumentList, { stdio: ['pipe', 'pipe', 'inherit'] });
  children.add(child);
  const [output] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, answer: output.toString().trim() };
}

async function stopOther(child: ChildProcess): Promise<void> {
  child.stdin?.end();
  await once(child, 'exit');
  children.delete(child);
}

function skipWithout(program: string, context: TestContext): boolean {
  const missing = spawnSync(program, ['--version']).error !== undefined;
  if (missing) context.skip(`${program} is not installed`);
  return missing;
}

for (const [name, program, argumentsFor] of OTHERS) {
  describe(`against ${name}`, () => {
    test('its lock is seen, and gone when it ends', async (context) => {
      if (skipWithout(program, context)) return;
      const file = newFile();
      const { child, answer } = await startOther(program, argumentsFor(file));
      assert.equal(answer, 'locked');
      assert.equal(isLocked(file), true);
      assert.deepEqual(lockHolder(file), { processId: child.pid });
      assert.equal(tryLock(file, { create: false }), undefined);
      assert.equal(isLocked(file), true, 'asking and failing to lock must not drop the lock of the other');
      await stopOther(child);
      assert.equal(isLocked(file), false);
    });

    test('it is kept out by ours, also after we asked about the file', async (context) => {
      if (skipWithout(program, context)) return;
      const file = newFile();
      const lock = tryLock(file, { create: false });
      assert.ok(lock);
      // Opening and closing the file here would drop the lock: the trap that the registry is for.
      assert.equal(isLocked(file), false);
      const alias = `${file}-alias`;
      linkSync(file, alias);
      assert.equal(isLocked(alias), false);
      const whileHeld = await startOther(program, argumentsFor(file));
      assert.equal(whileHeld.answer, 'busy');
      await stopOther(whileHeld.child);
      lock.release();
      lock.release();
      const afterwards = await startOther(program, argumentsFor(file));
      assert.equal(afterwards.answer, 'locked');
      await stopOther(afterwards.child);
    });
  });
}

describe('alone', () => {
  test('a missing file is not locked, and is made only on request', () => {
    const file = path.join(root, 'missing');
    assert.equal(isLocked(file), false);
    assert.equal(existsSync(file), false);
    assert.throws(() => tryLock(file, { create: false }), { code: 'GK_NOT_FOUND' });
    const lock = tryLock(file, { create: true });
    assert.ok(lock && existsSync(file));
    lock.release();
  });

  test('taking it twice is a defect, after the release it is not', () => {
    const file = newFile();
    const lock = tryLock(file, { create: false });
    assert.throws(() => tryLock(file, { create: false }), /holds the lock .* already/);
    lock?.release();
    const again = tryLock(file, { create: false });
    assert.ok(again);
    again.release();
  });

  test('a folder is refused', () => assert.throws(() => tryLock(root, { create: false })));
});

describe('exchangePaths', () => {
  const folder = (name: string, content: string) => {
    const directory = path.join(root, name);
    mkdirSync(directory);
    writeFileSync(path.join(directory, 'file'), content);
    return directory;
  };

  test('two folders change places', () => {
    const first = folder('first', 'one');
    const second = folder('second', 'two');
    exchangePaths(first, second);
    assert.equal(readFileSync(path.join(first, 'file'), 'utf8'), 'two');
    assert.equal(readFileSync(path.join(second, 'file'), 'utf8'), 'one');
  });

  test('names that are not ASCII', () => {
    const first = folder('größe', 'one');
    const second = folder('名前', 'two');
    exchangePaths(first, second);
    assert.equal(readFileSync(path.join(first, 'file'), 'utf8'), 'two');
  });

  test('a missing side changes nothing', () => {
    const only = folder('only', 'one');
    assert.throws(() => exchangePaths(only, path.join(root, 'nothing')), { code: 'GK_NOT_FOUND' });
    assert.equal(readFileSync(path.join(only, 'file'), 'utf8'), 'one');
  });

  test('another file system is refused with what to do', (context) => {
    const other = existsSync('/dev/shm') ? mkdtempSync('/dev/shm/graphkeep-locks-') : undefined;
    if (other === undefined) return context.skip('no second file system');
    const only = folder('here', 'one');
    try {
      const check = { code: 'GK_UNSUPPORTED', message: /EXDEV/, hint: /without --overwrite-destination/ };
      assert.throws(() => exchangePaths(only, other), check);
    } finally {
      rmSync(other, { recursive: true });
    }
  });
});
