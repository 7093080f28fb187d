/**
 * Takes the safety steps of the network out of a copy of the source, one at a time, and expects the test that guards each
 * to fail.
 */
import { noticeEach } from '../fixtures/mutations.ts';

const BROKEN_NETWORK = 'test/unit/remote/brokennetwork.test.ts';
const CONNECTION = 'test/unit/remote/connection.test.ts';
const SESSIONS = 'test/unit/server/sessions.test.ts';
const STAGED = 'test/unit/hotcopy/staged.test.ts';
const ANSWERS = 'test/unit/remote/protocol.test.ts';

noticeEach([
  {
    step: 'network: the checksum of each range',
    file: 'src/remote/connection.ts',
    from: 'return crc32(content) === Number.parseInt(String(headers[CHECKSUM_HEADER]), 16);',
    to: "return crc32(content) >= 0 && headers[CHECKSUM_HEADER] !== '';",
    guard: BROKEN_NETWORK,
    pattern: 'that damages bytes of ranges',
  },
  {
    step: 'network: the checksum of each frame',
    file: 'src/remote/connection.ts',
    from: 'if (isIntact(response, content)) return content;',
    to: 'if (isIntact(response, content) || content.length > 0) return content;',
    guard: BROKEN_NETWORK,
    pattern: 'that damages bytes of frames',
  },
  {
    step: 'network: less is asked for after a cut',
    file: 'src/remote/connection.ts',
    from: 'pieceBytes = Math.max(RANGE_BYTES_MIN, Math.ceil(piece.length / 2));',
    to: 'pieceBytes = Math.max(RANGE_BYTES_MIN, piece.length);',
    guard: BROKEN_NETWORK,
    pattern: 'carry less than a range',
  },
  {
    step: 'network: a bound for answers that break',
    file: 'src/remote/connection.ts',
    from: '|| spoiled >= SPOILED_ANSWERS_MAX)',
    to: '|| spoiled >= SPOILED_ANSWERS_MAX * 2)',
    guard: CONNECTION,
    pattern: 'without end',
  },
  {
    step: 'network: a bound for backups that start anew',
    file: 'src/operations/backup.ts',
    from: 'if (!mayStartAnew(error) || attempts >= BACKUP_ATTEMPTS_MAX) throw error;',
    to: 'if (!mayStartAnew(error) || attempts > BACKUP_ATTEMPTS_MAX) throw error;',
    guard: BROKEN_NETWORK,
    pattern: 'again and again',
  },
  {
    step: 'network: a lost session starts the backup anew',
    file: 'src/operations/backup.ts',
    from: "error.code === 'GK_SESSION_LOST'",
    to: "error.code === 'GK_SOURCE_MOVED'",
    guard: BROKEN_NETWORK,
    pattern: 'comes back on the same port',
  },
  {
    step: 'network: the session is renewed',
    file: 'src/remote/remotesource.ts',
    from: 'if (this.#isRenewing) return;',
    to: 'if (this.#isRenewing || !this.#stop.signal.aborted) return;',
    guard: BROKEN_NETWORK,
    pattern: 'a slow one keeps',
  },
  {
    step: 'network: a staged copy is asked for after a change',
    file: 'src/remote/remotesource.ts',
    from: 'attempts++ > 0',
    to: 'attempts++ < 0',
    guard: SESSIONS,
    pattern: 'changes while it is sent',
  },
  {
    step: 'network: a tree is confirmed',
    file: 'src/remote/remotesource.ts',
    from: '!rebuildable || (await isConfirmed(session, number))',
    to: '!rebuildable || number >= 0 || (await isConfirmed(session, number))',
    guard: SESSIONS,
    pattern: 'changes while it is sent',
  },
  {
    step: 'session: a step is done once',
    file: 'src/server/session.ts',
    from: 'if (number === this.#lastStep.number) return this.#lastStep.result;',
    to: 'if (number < 0) return this.#lastStep.result;',
    guard: SESSIONS,
    pattern: 'gives the same answer',
  },
  {
    step: 'session: a step that comes too late is refused',
    file: 'src/server/session.ts',
    from: 'if (number < this.#lastStep.number) {',
    to: 'if (number < 0) {',
    guard: SESSIONS,
    pattern: 'gives the same answer',
  },
  {
    step: 'session: closing a group closes nothing that was opened later',
    file: 'src/server/session.ts',
    from: 'if (this.#groups.get(number)?.step === step) await',
    to: 'if (step > 0) await',
    guard: SESSIONS,
    pattern: 'closing closes what',
  },
  {
    step: 'session: what an earlier attempt opened is closed',
    file: 'src/server/session.ts',
    from: '    await this.#close(number);\n    const open =',
    to: '    const open =',
    guard: SESSIONS,
    pattern: 'gives the same answer',
  },
  {
    step: 'session: of another principal',
    file: 'src/server/sessions.ts',
    from: 'session === undefined || session.owner.principal !== principal',
    to: "session === undefined || principal === ''",
    guard: SESSIONS,
    pattern: 'of another principal',
  },
  {
    step: 'session: a request that is repeated opens no second one',
    file: 'src/server/sessions.ts',
    from: 'if (known !== undefined) return known;',
    to: '',
    guard: SESSIONS,
    pattern: 'asked for again under',
  },
  {
    step: 'session: it expires',
    file: 'src/server/sessions.ts',
    from: 'this.end(session, true).catch(this.#options.onError);',
    to: '',
    guard: BROKEN_NETWORK,
    pattern: 'leaves nothing behind',
  },
  {
    step: 'session: one that opens while the server ends is released',
    file: 'src/server/sessions.ts',
    from: '      await closeHeld(held);\n',
    to: '',
    guard: SESSIONS,
    pattern: 'is being opened',
  },
  {
    step: 'session: a bound of ranges in memory',
    file: 'src/server/heldranges.ts',
    from: 'if (this.#slots.size < SESSION_RANGES_MAX) return;',
    to: 'if (this.#slots.size >= 0) return;',
    guard: SESSIONS,
    pattern: 'ranges: the oldest',
  },
  {
    step: 'staging: the copy is from one moment',
    file: 'src/hotcopy/staged.ts',
    from: 'isWhole = await group.confirm();',
    to: 'isWhole = (await group.confirm()) || true;',
    guard: STAGED,
    pattern: 'changes while it is copied',
  },
  {
    step: 'answers: no path leaves its folder',
    file: 'src/remote/protocol.ts',
    from: 'return refusingBadForm(() => safeMemberPath(path));',
    to: 'return path;',
    guard: ANSWERS,
    pattern: 'a path',
  },
]);
