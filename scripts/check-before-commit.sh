#!/usr/bin/env bash
# The pre-commit hook: checks those of the files that hold a MaxChannel.
#
#   check-before-commit.sh FILE…
set -euo pipefail
arguments=()
for file in "$@"; do
	if grep -qE '^[[:space:]-]*"?apiVersion"?:[[:space:]]*"?maxchannel\.dev/' "$file"; then arguments+=(-f "$file"); fi
done
[ "${#arguments[@]}" -gt 0 ] || exit 0
command -v maxchannel >/dev/null || { echo "maxchannel-check: the program maxchannel is not in the PATH: install it first" >&2; exit 2; }
exec maxchannel check "${arguments[@]}"
