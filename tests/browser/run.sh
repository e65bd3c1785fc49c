#!/usr/bin/env bash
# The pages of the program in a real browser, which scripts/browser.sh sees to. Exit 3: something is missing and cannot be installed
# here. PICTURES=1 writes the screenshots of the documentation anew.
# usage: tests/browser/run.sh [PROGRAM]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
kept="$("$root/scripts/browser.sh")"

program="${1:-}"
if [ -z "$program" ]; then
  triple="${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}"
  program="${CARGO_TARGET_DIR:-$root/target}/${triple}debug/maxchannel"
  [ -x "$program" ] || cargo build --quiet --locked --manifest-path "$root/Cargo.toml"
fi
export MODULES="$kept/node_modules/" PROGRAM="$program" PICTURES_FOLDER="${PICTURES:+$root/docs/pictures}"
exec node --test --test-reporter=spec "$here"
