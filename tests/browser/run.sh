#!/usr/bin/env bash
# The pages of the program in a real browser: Debian's Chromium, driven by playwright-core, and axe-core for what a screen reader meets.
# Installs what it needs, once: Chromium by apt-get, the packages of npm into the cache. Exit 3: something is missing and cannot be
# installed here. PICTURES=1 writes the screenshots of the documentation anew.
# usage: tests/browser/run.sh [PROGRAM]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

for tool in node npm; do
  command -v "$tool" >/dev/null || { echo "browser: $tool is missing: install Node 20 or later and run again" >&2; exit 3; }
done
if ! command -v chromium >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "browser: install the packages chromium and fonts-dejavu-core first" >&2
    exit 3
  fi
  echo "browser: installing Chromium (once)" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
    fonts-noto-color-emoji; } >/dev/null
fi
kept="${XDG_CACHE_HOME:-$HOME/.cache}/maxchannel/browser-$(sha256sum "$here/package-lock.json" | cut -c1-12)"
if [ ! -d "$kept/node_modules/playwright-core" ]; then
  echo "browser: installing playwright-core and axe-core (once)" >&2
  mkdir -p "$kept"
  cp "$here/package.json" "$here/package-lock.json" "$kept/"
  (cd "$kept" && npm ci --ignore-scripts --silent)
fi

program="${1:-}"
if [ -z "$program" ]; then
  triple="${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}"
  program="${CARGO_TARGET_DIR:-$root/target}/${triple}debug/maxchannel"
  [ -x "$program" ] || cargo build --quiet --locked --manifest-path "$root/Cargo.toml"
fi
export MODULES="$kept/node_modules/" PROGRAM="$program" PICTURES_FOLDER="${PICTURES:+$root/docs/pictures}"
exec node --test --test-reporter=spec "$here"
