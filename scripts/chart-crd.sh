#!/usr/bin/env bash
# Copies the generated CRD into the chart, which must be whole in itself. With --check it only says whether the copy is stale, for CI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
from=crds/maxchannels.yaml to=charts/maxchannel/files/maxchannels.yaml
case "${1:-}" in
"") cp "$from" "$to" ;;
--check) cmp -s "$from" "$to" || { echo "$to differs from $from: run scripts/chart-crd.sh and commit it" >&2; exit 1; } ;;
*) echo "usage: chart-crd.sh [--check]" >&2; exit 2 ;;
esac
