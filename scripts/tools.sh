#!/usr/bin/env bash
# Builds the tools that `make` needs beside the Rust toolchain, each once, and prints the path of the program; of gateway-api the folder with its definitions,
# of flux the folder with its controllers, their definitions and crane.
#
#   tools.sh actionlint | cargo-deny | cargo-fuzz | flux | gateway-api | helm | helm-docs | helm-unittest | kube-router | kubeconform | kubectl | prometheus | promtool | python-yaml
#
# Kept by version outside the tree, in the user's cache. Versions are raised here and nowhere else. Exit 3: the machine lacks
# something, which is named.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/maxchannel/tools"

# once NAME VERSION COMMAND…: runs the command, which must put the program into the folder $OUT, unless an earlier run did. Prints the path.
once() {
	local name=$1 version=$2 folder; shift 2
	folder=$cache/$name-$version
	mkdir -p "$folder"
	# Two that need the same tool at once: the second waits.
	exec 9>"$folder/.lock"
	flock 9
	if [ ! -e "$folder/.complete" ]; then
		echo "tools: building $name $version (once)" >&2
		OUT=$folder "$@" >"$folder/build.log" 2>&1 || { tail -n 20 "$folder/build.log" >&2; echo "tools: $name $version could not be built: see $folder/build.log" >&2; exit 1; }
		touch "$folder/.complete"
	fi
	exec 9>&-
	echo "$folder/$name"
}

needs() { command -v "$1" >/dev/null || { echo "tools: $2 is missing: install it first" >&2; exit 3; }; }

export CGO_ENABLED=0 GOTOOLCHAIN=local
go_install() { needs go Go; GOBIN=$OUT go install -trimpath -ldflags "-s -w" "$1"; }
# A target folder in the cache, since the repository's own would mix foreign builds into it; gone afterwards.
cargo_install() { needs cargo "Rust's cargo"; cargo install --quiet --locked --root "$OUT" --target-dir "$OUT/build" "$1@$2" && mv "$OUT/bin/$1" "$OUT/$1" && rm -rf "$OUT/build"; }
module_tool() { needs go Go; (cd "$1" && go build -mod=readonly -trimpath -ldflags "-s -w" -o "$OUT/" tool); }

# Flux's controllers, their definitions and a registry for charts. Minutes of compiling, so only `make test-flux` asks for them.
flux_programs() {
	local controller folder
	module_tool "$here/flux" && mkdir -p "$OUT/definitions" || return
	for controller in source kustomize helm; do
		folder=$(cd "$here/flux" && go list -m -f '{{.Dir}}' "github.com/fluxcd/$controller-controller") || return
		install -m 644 "$folder"/config/crd/bases/*.yaml "$OUT/definitions/" || return
	done
}

# module_folder MODULE VERSION SUM: where the module's files are, which must be those that the sum is of.
module_folder() {
	local told
	needs go Go
	told=$(cd / && GOFLAGS=-mod=mod go mod download -json "$1@$2")
	grep -qF "\"Sum\": \"$3\"" <<<"$told" || { echo "tools: $1 $2 is not what it was: $told" >&2; exit 1; }
	sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p' <<<"$told"
}
# The programs of a Debian package, taken out of it: an installation would start services.
debian_programs() {
	needs apt-get "apt-get (Debian or Ubuntu)"
	cd "$OUT"
	apt-get download "$1" || { [ "$(id -u)" = 0 ] && apt-get update -qq && apt-get download "$1"; }
	dpkg-deb --extract "$1"_*.deb .
	mv usr/bin/* .
	rm -rf usr etc lib var ./*.deb
}
# A Python that reads YAML.
python_yaml() {
	for python in python3 /usr/bin/python3; do "$python" -c 'import yaml' 2>/dev/null && { command -v "$python"; return; }; done
	"$here/packages.sh" tools python3 python3-yaml
	echo /usr/bin/python3
}

case "${1:-}" in
actionlint) once actionlint v1.7.7 go_install github.com/rhysd/actionlint/cmd/actionlint@v1.7.7 ;;
gateway-api) module_folder sigs.k8s.io/gateway-api v1.5.1 h1:RqVRIlkhLhUO8wOHKTLnTJA6o/1un4po4/6M1nRzdd0= ;;
cargo-deny) once cargo-deny 0.20.2 cargo_install cargo-deny 0.20.2 ;;
cargo-fuzz) once cargo-fuzz 0.13.2 cargo_install cargo-fuzz 0.13.2 ;;
flux) dirname "$(once flux v1.9.5 flux_programs)" ;;
helm) once helm v4.3.1 go_install helm.sh/helm/v4/cmd/helm@v4.3.1 ;;
helm-docs) once helm-docs v1.14.2 go_install github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2 ;;
kube-router) once kube-router v2.1.0 module_tool "$here/kube-router" ;;
kubeconform) once kubeconform v0.8.0 go_install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0 ;;
helm-unittest) once helm-unittest v1.1.2 module_tool "$here/helm-unittest" ;;
kubectl) echo "$("$here/../tests/kubernetes/build.sh")/kubectl" ;;
# Whatever release the distribution has; the name holds the first that was tried.
prometheus | promtool) echo "$(dirname "$(once prometheus debian-2.42 debian_programs prometheus)")/$1" ;;
python-yaml) python_yaml ;;
*) echo "usage: tools.sh actionlint | cargo-deny | cargo-fuzz | flux | gateway-api | helm | helm-docs | helm-unittest | kube-router | kubeconform | kubectl | prometheus | promtool | python-yaml" >&2; exit 2 ;;
esac
