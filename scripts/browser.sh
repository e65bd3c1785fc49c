#!/usr/bin/env bash
# Sees to a real browser for tests: Debian's Chromium, and playwright-core from npm to drive it. Prints the folder in which `node_modules`
# is. Installs each once. Exit 3: something is missing that cannot be installed here, and says what.
set -euo pipefail
version=1.65.1
folder="${XDG_CACHE_HOME:-$HOME/.cache}/maxchannel/tools/playwright-core-$version"

missing() { echo "browser: $1" >&2; exit 3; }
command -v node >/dev/null && command -v npm >/dev/null || missing "Node.js with npm is missing: install it"

mkdir -p "$folder"
# Two that need it at once: the second waits.
exec 9>"$folder/.lock"
flock 9
if ! command -v chromium >/dev/null; then
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || missing "Chromium is missing: install the package chromium"
	echo "browser: installing chromium (once)" >&2
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >"$folder/apt.log" 2>&1 ||
		missing "Chromium cannot be installed: see $folder/apt.log"
fi
if [ ! -e "$folder/.complete" ]; then
	echo "browser: installing playwright-core $version (once)" >&2
	npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent "playwright-core@$version" >"$folder/npm.log" 2>&1 ||
		missing "playwright-core cannot be installed: see $folder/npm.log"
	touch "$folder/.complete"
fi
echo "$folder"
