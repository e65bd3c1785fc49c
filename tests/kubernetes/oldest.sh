#!/usr/bin/env bash
# The oldest Kubernetes that is promised. Does its API server take the definition, every example and everything that the chart can make? And, as root, do the
# core tests hold on a node of it: what the controller makes, owns and repairs, a relay that runs, the admission policies?
#
#   oldest.sh [STATE]
#
# Builds that release once into the user's cache (about 6 minutes on 2 cores); etcd and kubectl are those of the other tests. Without root the API server
# alone is asked.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
STATE=$(state_folder "${1:-$here/../../target/oldest}")
version=$(sed -n 's/^require k8s\.io\/kubernetes \(v[0-9.]*\)$/\1/p;s/^\tk8s\.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$here/oldest/go.mod" | head -n 1)
sum=$(cat "$here"/oldest/{go.mod,go.sum,main.go} | sha256sum | cut -c1-8)
assets="${XDG_CACHE_HOME:-$HOME/.cache}/maxchannel/kubernetes-$version/$sum"
mkdir -p "$assets"
exec 9>"$assets/.lock"
flock 9
if [ ! -e "$assets/.complete" ]; then
	command -v go >/dev/null || missing "Go is missing: install it"
	say "building Kubernetes $version (once)"
	minor=${version#v*.}
	package=k8s.io/component-base/version
	(cd "$here/oldest" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOGC=400 nice go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}" -o "$assets/kubernetes" .)
	for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet; do ln -sf kubernetes "$assets/$name"; done
	newest=$("$here/build.sh")
	for name in etcd kubectl; do ln -sf "$newest/$name" "$assets/$name"; done
	touch "$assets/.complete"
fi
exec 9>&-
unset KUBECONFIG
export KUBEBUILDER_ASSETS=$assets
trap '"$here/down.sh" "$STATE"' EXIT
mode=api
[ "$(id -u)" != 0 ] || mode=node
"$here/up.sh" --mode "$mode" "$STATE"
. "$STATE/env"
cd "$here/../.."
# The newest kubectl warns that this server is older than it supports; what it sends is what the files say.
kubectl() { "$CLUSTER_KUBECTL" "$@" 2> >(grep -v "version difference" >&2); }
kubectl version | grep -q "Server Version: $version" || fail "another server answers"
kubectl apply --server-side -f crds/maxchannels.yaml
# kubectl refuses to wait for what has no conditions yet.
until_true 30 "the definition was established" kube-apiserver kubectl wait --for=condition=Established crd/maxchannels.maxchannel.dev --timeout=1s
kubectl create namespace crm
kubectl apply --server-side --dry-run=server -f examples/channel.yaml -f examples/minimal.yaml
# The rules of the definition that this server must keep, too.
if sed 's/after: 24h/after: 40d/' examples/channel.yaml | kubectl apply --server-side --dry-run=server -f - 2>/dev/null; then fail "a broken manifest is taken"; fi
helm=$("$here/../../scripts/tools.sh" helm)
kubectl create namespace sales
kubectl create namespace monitoring
kubectl create namespace maxchannel
for values in charts/maxchannel/values.yaml charts/maxchannel/tests/values/*.yaml; do
	# PodMonitor and PrometheusRule are Prometheus Operator's. The pod of `helm test` wants a ServiceAccount that a dry run does not make.
	"$helm" template release charts/maxchannel --namespace maxchannel --skip-tests --values "$values" --set podMonitor.enabled=false,prometheusRule.enabled=false,priorityClassName= \
		--set crds.install=false --kube-version "$version" | kubectl apply --server-side --dry-run=server -f -
done
say "Kubernetes $version takes everything"
[ "$mode" = node ] || { say "without root no node of it was tried"; exit 0; }
kubectl delete --wait=false namespace crm sales maxchannel monitoring
FEATURES=otlp "$here/../../scripts/make-image.sh"
"$here/import-image.sh" "$STATE" target/maxchannel-image.tar
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
# By name: not all of it, for CI has no time to do everything twice.
cargo test --locked --workspace --features otlp --test kubernetes -- admission:: fresh:: hosts:: ownership::what_is_not_the_channels \
	refused::a_larger_claim refused::a_volume_that rights::the_controllers_account
say "the core tests hold on Kubernetes $version"
