#!/usr/bin/env bash
# Takes the API server away from under a test and gives it back, on the same address with the same data.
#
#   apiserver.sh STATE stop|start
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 2 ] || { say "usage: apiserver.sh STATE stop|start"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")
[ -f "$STATE/kube-apiserver.argv" ] || fail "no API server of ours in $STATE: start one by up.sh"
case "$2" in
stop) end kube-apiserver ;;
start)
	running kube-apiserver >/dev/null && exit 0
	mapfile -t command <"$STATE/kube-apiserver.argv"
	start kube-apiserver "${command[@]}"
	until_true 60 "the API server was" kube-apiserver "$STATE/kubectl" get --raw /readyz
	;;
*) say "usage: apiserver.sh STATE stop|start"; exit $EXIT_USAGE ;;
esac
