#!/usr/bin/env bash
# Gives the node's containerd an image from a docker-archive (as `make image` and scripts/docker_archive.py write it); there is no registry.
#
#   import-image.sh STATE TAR [NAME:TAG…]
#
# Further names stand for the same image: what follows from another image can be tested without building one.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -ge 2 ] || { say "usage: import-image.sh STATE TAR [NAME:TAG…]"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")
[ -f "$2" ] || fail "there is no image $2: make it first (make image)"
[ -f "$STATE/env" ] || fail "no cluster runs in $STATE: start one by up.sh"
. "$STATE/env"
[ "$CLUSTER_MODE" = node ] || fail "the cluster in $STATE has no node of ours (mode $CLUSTER_MODE): give it the image in its own way"
images() { ctr --address "$CLUSTER_CONTAINERD" --namespace k8s.io images "$@" >&2; }
images import "$2"
name=$(tar -xOf "$2" manifest.json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["RepoTags"][0])')
for other in "${@:3}"; do images tag --force "$name" "$other"; done
