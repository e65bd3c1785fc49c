#!/usr/bin/env bash
# Installs packages of Debian or Ubuntu, once.
#
#   packages.sh WHAT PACKAGE…
#
# WHAT stands before every message. Exit 3: they cannot be installed here.
set -euo pipefail
what=$1
shift
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "$what: install these packages first: $*" >&2
	exit 3
fi
log=$(mktemp)
echo "$what: installing $* (once)" >&2
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 || {
	tail -n 20 "$log" >&2
	echo "$what: they could not be installed: see $log" >&2
	exit 3
}
rm -f "$log"
