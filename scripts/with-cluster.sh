#!/usr/bin/env bash
# Runs a command with a real Kubernetes: builds its programs (once) beside the test image, starts it, gives it the image, runs the command with the cluster's
# settings in its environment, and ends the cluster whatever happened.
#
#   with-cluster.sh COMMAND…
#
# Where the machine lacks something (no root, no Go, …) the command runs without a cluster and its tests skip, loudly; with CI set that is a failure.
# FEATURES, if set, are those of the image; tests that are run with the same ones are built once.
# KUBECONFIG, if set, names a cluster to use instead; it must already have the image. CLUSTER_KIND is the mode of up.sh, node unless set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=${CLUSTER:-target/cluster}
mkdir -p target

# lacking REASON COMMAND…
lacking() {
	local reason=$1
	shift
	if [ -n "${CI:-}" ]; then
		echo "with-cluster: there is no cluster: $reason; in CI that is a failure" >&2
		exit 1
	fi
	echo "with-cluster: THERE IS NO CLUSTER: $reason; what needs one is skipped" >&2
	exec "$@"
}

if [ -z "${KUBECONFIG:-}" ]; then
	# The Go build and cargo share the two cores; together they take little longer than the longer of the two.
	nice -n 10 tests/kubernetes/build.sh >target/cluster-build.log 2>&1 &
	build=$!
fi
scripts/make-image.sh
cargo test --locked --workspace --no-run --quiet --features "${FEATURES:-}"
if [ -z "${KUBECONFIG:-}" ]; then
	code=0
	wait "$build" || code=$?
	if [ "$code" -ne 0 ]; then
		tail -n 20 target/cluster-build.log >&2
		lacking "its programs could not be built, see target/cluster-build.log" "$@"
	fi
fi
trap 'tests/kubernetes/down.sh "$state" >/dev/null 2>&1 || true' EXIT
code=0
tests/kubernetes/up.sh --mode "${CLUSTER_KIND:-node}" "$state" || code=$?
if [ "$code" -ne 0 ]; then
	lacking "it could not be started (exit code $code)" "$@"
fi
set -a
# shellcheck disable=SC1091
. "$state/env"
set +a
[ "${CLUSTER_MODE:-}" != node ] || tests/kubernetes/import-image.sh "$state" target/maxchannel-image.tar
scripts/kubeconform-chart.sh
"$@"
