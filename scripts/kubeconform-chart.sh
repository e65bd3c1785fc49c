#!/usr/bin/env bash
# Checks every object that the chart can make against the schemas of a running API server (that of KUBECONFIG), field by field.
#
#   KUBECONFIG=… kubeconform-chart.sh
#
# The schemas are the server's own /openapi/v3, so they are those of the release tested against, and nothing is fetched from elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${KUBECONFIG:?names the cluster whose schemas are used: see tests/kubernetes/up.sh}"
helm=$(scripts/tools.sh helm)
kubeconform=$(scripts/tools.sh kubeconform)
kubectl=${CLUSTER_KUBECTL:-$(scripts/tools.sh kubectl)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 scripts/openapi_schemas.py --kubectl "$kubectl" --output "$work"
for values in charts/maxchannel/values.yaml charts/maxchannel/tests/values/*.yaml charts/maxchannel/ci/*-values.yaml; do
	# PodMonitor and PrometheusRule are Prometheus Operator's, which a test cluster does not know; everything else must be known.
	"$helm" template release charts/maxchannel --namespace maxchannel --values "$values" |
		"$kubeconform" -strict -summary -skip PodMonitor,PrometheusRule -schema-location "$work/{{ .ResourceKind }}{{ .KindSuffix }}.json"
done
