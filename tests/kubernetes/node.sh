#!/usr/bin/env bash
# Silences the node of a test's cluster, as one that has lost its network, and lets it speak again. Its containers go on running.
#
#   node.sh STATE pause|resume
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 2 ] || { say "usage: node.sh STATE pause|resume"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")
# The program itself, for which nsenter only waits; it stops itself where that is stopped, and must go on with it.
waits=$(running kubelet) || fail "no node of ours in $STATE: start one by up.sh"
kubelet=$(pgrep -P "$waits" || echo "$waits")
case "$2" in
pause) kill -STOP "$kubelet" ;;
resume) kill -CONT "$kubelet" "$waits" ;;
*) say "usage: node.sh STATE pause|resume"; exit $EXIT_USAGE ;;
esac
