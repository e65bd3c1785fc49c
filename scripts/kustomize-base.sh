#!/usr/bin/env bash
# Renders the chart with its defaults as the kustomize base of deploy/kustomize. With --check it only says whether the base is stale, and whether the example
# on top of it can be built and gives controller and relays one image, for CI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in "" | --check) ;; *) echo "usage: kustomize-base.sh [--check]" >&2; exit 2 ;; esac
base=deploy/kustomize/base/maxchannel.yaml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
	echo "# Rendered from charts/maxchannel by scripts/kustomize-base.sh; do not edit."
	# What Helm writes of itself would be untrue here, and its tests are run by nobody.
	"$(scripts/tools.sh helm)" template maxchannel charts/maxchannel --namespace maxchannel --skip-tests |
		sed -e '/^ *helm\.sh\/chart: /d' -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d' -e '/^ *helm\.sh\/resource-policy: keep$/d'
} >"$work/base.yaml"
if [ "${1:-}" != --check ]; then
	cp "$work/base.yaml" "$base"
	exit
fi
cmp -s "$work/base.yaml" "$base" || { echo "$base is stale: run scripts/kustomize-base.sh and commit it" >&2; exit 1; }
kubectl=$(command -v kubectl || scripts/tools.sh kubectl)
"$kubectl" kustomize deploy/kustomize/example >"$work/built.yaml"
images=$(grep -cE 'registry\.acme\.ru/maxchannel:0\.1\.0' "$work/built.yaml")
[ "$images" = 2 ] || { echo "deploy/kustomize/example: controller and relays must have the one image, but it stands there $images times" >&2; exit 1; }
