#!/usr/bin/env bash
# Alerts and dashboards: the dashboards are fresh, every query is one that Prometheus can read and asks only for what the program tells, every alert has its
# page, fires by its figure and resolves.
#
#   lint-monitoring.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(scripts/tools.sh python-yaml)
promtool=$(scripts/tools.sh promtool)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" scripts/dashboards.py --check
"$python" scripts/check_monitoring.py --queries "$work/queries.yaml"
"$promtool" check rules --lint-fatal charts/maxchannel/files/alerts.yaml "$work/queries.yaml" >"$work/said" || { cat "$work/said" >&2; exit 1; }
# Debian's build does not know kubernetes_sd_configs: a stand-in for them.
cp charts/maxchannel/files/alerts.yaml "$work"
sed 's/^\( *\)kubernetes_sd_configs:.*/\1static_configs: [{targets: ["127.0.0.1:8080"]}]/' docs/alerts/prometheus.yaml >"$work/prometheus.yaml"
"$promtool" check config "$work/prometheus.yaml" >"$work/said" || { cat "$work/said" >&2; exit 1; }
"$promtool" test rules tests/monitoring/alerts_test.yaml >"$work/said" || { cat "$work/said" >&2; exit 1; }
echo "lint-monitoring: $(grep -c 'record:' "$work/queries.yaml") queries, $(grep -c 'alert:' charts/maxchannel/files/alerts.yaml) alerts"
