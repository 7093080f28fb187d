/** The same as steps.test.ts for encrypted artifacts: what keeps them secret, and what tells that they are whole. */
import { type Mutation, noticeEach } from '../fixtures/mutations.ts';

const SEALED = 'test/unit/artifact/sealed.test.ts';
const LIFE = 'test/unit/operations/encryption.test.ts';
const COMMANDS = 'test/unit/cli/encryption.test.ts';
const SESSIONS = 'test/unit/server/sessions.test.ts';

const MUTATIONS: readonly Mutation[] = [
  {
    step: 'sealing: the head waits until the end',
    file: 'src/artifact/sealedsink.ts',
    from: 'this.#headChunks = Math.ceil(headBytes / CHUNK_BYTES);',
    to: 'this.#headChunks = 0;',
    guard: SEALED,
    pattern: 'nothing is sealed twice',
  },
  {
    step: 'sealing: nothing is taken back',
    file: 'src/artifact/sealedsink.ts',
    from: 'if (bytes === this.bytes) return;',
    to: 'if (bytes >= 0) return;',
    guard: SEALED,
    pattern: 'goes back to no byte',
  },
  {
    step: 'sealing: what can change is copied aside first',
    file: 'src/operations/fullbackup.ts',
    from: 'if (writer.canRewind) return undefined;',
    to: 'if (this.#doneBytes >= 0) return undefined;',
    guard: LIFE,
    pattern: 'copied aside until it stands still',
  },
  {
    step: 'sealing: a backup server copies aside from the first try on',
    file: 'src/remote/remotegroups.ts',
    from: ' || aside !== undefined',
    to: '',
    guard: SESSIONS,
    pattern: 'copied aside before the first try',
  },
  {
    step: 'sealing: the header comes last',
    file: 'src/artifact/sealedsink.ts',
    from: 'await sink.append(Buffer.alloc(sealed.#payloadStart));',
    to: 'await sink.append(Buffer.concat([writeHeader(sealed.#stanzasWith(undefined), sealed.#fileKey), sealed.#nonce]));',
    guard: SEALED,
    pattern: 'writes the header last',
  },
  {
    step: 'chunks: each has its number',
    file: 'src/formats/age/payload.ts',
    from: 'nonce.writeUIntBE(number, NUMBER_OFFSET, NUMBER_BYTES);',
    to: '',
    guard: SEALED,
    pattern: 'written here',
  },
  {
    step: 'chunks: the last one is marked',
    file: 'src/formats/age/payload.ts',
    from: 'isLast ? 1 : 0',
    to: '0',
    guard: SEALED,
    pattern: 'written here',
  },
  {
    step: 'keys: the header is proven also by who wrote it',
    file: 'src/artifact/encryption.ts',
    from: ' && writeHeader(header.stanzas, own).equals(header.bytes)',
    to: '',
    guard: SEALED,
    pattern: 'covered by the key',
  },
  {
    step: 'keys: a file of private keys is not for others',
    file: 'src/cli/encryptionoptions.ts',
    from: 'forbiddenMode: READABLE_BY_OTHERS | WRITABLE_BY_OTHERS,',
    to: 'forbiddenMode: 0,',
    guard: COMMANDS,
    pattern: 'which others cannot read',
  },
  {
    step: 'keys: a private key is not repeated',
    file: 'src/cli/encryptionoptions.ts',
    from: 'if (SECRET_KEY.test(file)) {',
    to: 'if (file === "") {',
    guard: COMMANDS,
    pattern: 'is refused and not repeated',
  },
  {
    step: 'without a key: nothing is restored or removed by the word of a file',
    file: 'src/chain/catalogue.ts',
    from: "export async function catalogueOf(\n  files: readonly ListedFile[],\n  signal?: AbortSignal,\n  sealed: SealedOnes = 'opened',\n): Promise<Catalogue> {",
    to: "export async function catalogueOf(\n  files: readonly ListedFile[],\n  signal?: AbortSignal,\n  sealed: SealedOnes = 'opened',\n): Promise<Catalogue> {\n  sealed = 'withSealed';",
    guard: LIFE,
    pattern: 'the rest needs it',
  },
  {
    step: 'without a key: an encrypted newest artifact is not passed over',
    file: 'src/operations/plan.ts',
    from: 'if (request.until === undefined) refuseNewerUnreadable(catalogue, groups[0]!);',
    to: '',
    guard: LIFE,
    pattern: 'is not passed over',
  },
  {
    step: 'without a key: what may be built on is not removed',
    file: 'src/operations/expire.ts',
    from: 'refuseUnopened(folder,',
    to: 'if (run.options.directory === "") refuseUnopened(folder,',
    guard: LIFE,
    pattern: 'may build on',
  },
  {
    step: 'aggregate: what was encrypted does not become plain',
    file: 'src/operations/aggregate.ts',
    from: 'if (!encryptsArtifacts()) {',
    to: "if (encrypted.path === '') {",
    guard: LIFE,
    pattern: 'not aggregated into something plain',
  },
  {
    step: 'configuration: private keys only into what is encrypted',
    file: 'src/cli/backupsource.ts',
    from: 'includePrivateKeys: encryptsArtifacts(),',
    to: 'includePrivateKeys: true,',
    guard: COMMANDS,
    pattern: 'stay where they are',
  },
  {
    step: 'configuration: encrypted when artifacts are',
    file: 'src/operations/configurationbackup.ts',
    from: 'encryptsArtifacts() ? await SealedSink.begin(publication) : undefined',
    to: 'undefined as SealedSink | undefined',
    guard: COMMANDS,
    pattern: 'encrypt the configuration as well',
  },
  {
    step: 'validate: what was not read is not good',
    file: 'src/operations/validate.ts',
    from: 'const damage = result === undefined ?',
    to: "const damage = result === undefined ? undefined : artifact.path === '' ?",
    guard: 'test/unit/operations/chainvalidate.test.ts',
    pattern: 'is not called good',
  },
];

noticeEach(MUTATIONS);
