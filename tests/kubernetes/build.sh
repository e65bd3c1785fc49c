#!/usr/bin/env bash
# Builds Kubernetes and etcd of the releases that go.mod names, once, and prints the folder of the programs.
#
# build.sh [--where]: with --where it only prints the folder, built or not.
#
# The result is kept by version outside the tree, so that neither `cargo clean` nor a new checkout builds it again. It can run beside cargo.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's/^\tk8s\.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$here/go.mod")
# The sum of the module's own files is part of the name: a changed dependency or main is a different result.
sum=$(cat "$here/go.mod" "$here/go.sum" "$here/main.go" | sha256sum | cut -c1-8)
bin="${XDG_CACHE_HOME:-$HOME/.cache}/maxchannel/kubernetes-$version/$sum"
[ "${1:-}" = "--where" ] && { echo "$bin"; exit 0; }

mkdir -p "$bin"
# Two builds at once would each take 2 GB and all cores: the second waits and finds the work done.
exec 9>"$bin/.lock"
flock 9
if [ ! -e "$bin/.complete" ]; then
	# The second asks whether the Go that is there is new enough; a toolchain is never downloaded.
	{ command -v go && cd "$here" && GOTOOLCHAIN=local go list -m; } >/dev/null 2>&1 ||
		{ echo "building the test cluster needs Go $(sed -n 's/^go //p' "$here/go.mod") or later: install it, or set KUBECONFIG to a cluster that may be used" >&2; exit 3; }
	echo "building Kubernetes $version into $bin (once, about 4 minutes on 2 cores)" >&2
	major=${version#v}; minor=${major#*.}
	package=k8s.io/component-base/version
	(cd "$here" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOGC=400 nice go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=${major%%.*} -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean" \
		-o "$bin/kubernetes.new" .)
	mv "$bin/kubernetes.new" "$bin/kubernetes"
	for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do ln -sf kubernetes "$bin/$name"; done
	touch "$bin/.complete"
fi
echo "$bin"
