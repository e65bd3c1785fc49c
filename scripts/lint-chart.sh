#!/usr/bin/env bash
# Everything that can be said of the chart without a cluster: the CRD's copy, the README and the
# kustomize base are fresh, helm's own lint, the unit tests.
#
#   lint-chart.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/chart-crd.sh --check
scripts/chart-readme.sh --check
scripts/kustomize-base.sh --check
helm=$(scripts/tools.sh helm)
unittest=$(scripts/tools.sh helm-unittest)
for values in charts/maxchannel/values.yaml charts/maxchannel/tests/values/*.yaml charts/maxchannel/ci/*-values.yaml; do
	"$helm" lint --strict --quiet charts/maxchannel --values "$values"
done
"$unittest" --strict --color=false charts/maxchannel
scripts/lint-monitoring.sh
