/**
 * The first file of an installed package: says that Node is too old, where an old one would otherwise stop at the first
 * thing that it does not know. Nothing newer than Node 16 may stand here, nor be imported before the question is decided.
 */
import process from 'node:process';

const NODE_MAJOR_MIN = 24;
const NODE_MISSING_STATUS = 69;

if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR_MIN) {
  void import('./main.ts');
} else {
  process.stderr.write(`error: Node v${process.versions.node} is too old: ${process.execPath}\n`);
  process.stderr.write(`hint: install Node ${NODE_MAJOR_MIN} or later, or put it first in PATH\n`);
  process.exitCode = NODE_MISSING_STATUS;
}
