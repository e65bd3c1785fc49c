#!/usr/bin/env bash
# Sees to a real browser for tests: Debian's Chromium, playwright-core to drive it, and axe-core for what a screen reader meets, in the
# versions of tests/browser/package-lock.json. Prints the folder in which `node_modules` is. Installs each once. Exit 3: something is
# missing that cannot be installed here, and says what.
set -euo pipefail
tests="$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/browser" && pwd)"
folder="${XDG_CACHE_HOME:-$HOME/.cache}/maxchannel/tools/browser-$(sha256sum "$tests/package-lock.json" | cut -c1-12)"

missing() { echo "browser: $1" >&2; exit 3; }
command -v node >/dev/null && command -v npm >/dev/null || missing "Node.js with npm is missing: install Node 20 or later"

mkdir -p "$folder"
# Two that need it at once: the second waits.
exec 9>"$folder/.lock"
flock 9
command -v chromium >/dev/null || "$(dirname "${BASH_SOURCE[0]}")/packages.sh" browser chromium fonts-dejavu-core fonts-noto-color-emoji
if [ ! -e "$folder/.complete" ]; then
	echo "browser: installing playwright-core and axe-core (once)" >&2
	cp "$tests/package.json" "$tests/package-lock.json" "$folder/"
	(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --silent) >"$folder/npm.log" 2>&1 ||
		missing "playwright-core and axe-core cannot be installed: see $folder/npm.log"
	touch "$folder/.complete"
fi
echo "$folder"
