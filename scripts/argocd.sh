#!/usr/bin/env bash
# Copies the health script into the ConfigMap for Argo CD. With --check it only says whether the copy is stale, for CI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
map=deploy/argocd/argocd-cm.yaml
fresh() { sed '/health\.maxchannel\.dev_MaxChannel: |/q' "$map"; sed 's/^/    /' deploy/argocd/health.lua; }
case "${1:-}" in
"") text=$(fresh); printf '%s\n' "$text" >"$map" ;;
--check) cmp -s <(fresh) "$map" || { echo "$map is stale: run scripts/argocd.sh and commit it" >&2; exit 1; } ;;
*) echo "usage: argocd.sh [--check]" >&2; exit 2 ;;
esac
