#!/usr/bin/env bash
# Gives the node's containerd an image from a docker-archive (as `make image` and scripts/docker_archive.py write it); there is no registry.
#
#   import-image.sh STATE TAR
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 2 ] || { say "usage: import-image.sh STATE TAR"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")
[ -f "$2" ] || fail "there is no image $2: make it first (make image)"
[ -f "$STATE/env" ] || fail "no cluster runs in $STATE: start one by up.sh"
. "$STATE/env"
[ "$CLUSTER_MODE" = node ] || fail "the cluster in $STATE has no node of ours (mode $CLUSTER_MODE): give it the image in its own way"
ctr --address "$CLUSTER_CONTAINERD" --namespace k8s.io images import "$2" >&2
