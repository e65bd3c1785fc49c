#!/usr/bin/env bash
# What Argo CD and Flux make of a MaxChannel: the health script and kstatus on the statuses of our snapshots, the examples.
#
#   lint-gitops.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/argocd.sh --check
command -v go >/dev/null || { echo "lint-gitops: Go is missing: install it first" >&2; exit 3; }
# What is read lies outside the module, so that Go would answer from its cache.
(cd tests/gitops && CGO_ENABLED=0 GOTOOLCHAIN=local go test -mod=readonly -count=1 ./...)
kubectl=$(command -v kubectl || scripts/tools.sh kubectl)
"$kubectl" kustomize examples/gitops/channels | grep -q 'kind: MaxChannel' || { echo "lint-gitops: examples/gitops/channels holds no channel" >&2; exit 1; }
