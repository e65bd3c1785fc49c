#!/usr/bin/env bash
# The steps of a release that are the same wherever it is made. The workflows call them; `make lint` tries those that need no registry.
#
#   release.sh check VERSION                           everything that names a version names this one, and the changelog tells of it
#   release.sh binaries VERSION ARCHITECTURE FOLDER    maxchannel-VERSION-linux-ARCHITECTURE.tar.gz: static, without the simulators
#   release.sh chart VERSION IMAGE DIGEST FOLDER       maxchannel-chart-VERSION.tgz, whose default image is that one
#   release.sh krew VERSION URL FOLDER                 maxchannel-krew.yaml: the kubectl plugin, from the archives there, to be had under URL
#   release.sh checksums FOLDER                        SHA256SUMS of what is in it
#   release.sh notes VERSION                           the changelog's words about the version
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
fail() { echo "release: $*" >&2; exit 1; }

# The same bytes for the same files, whenever and by whomever they are packed.
pack() {
	local archive=$1 folder=$2
	shift 2
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" -C "$folder" -cf - "$@" | gzip -n >"$archive"
}

notes() { awk -v version="$1" '/^## / {ours = ($2 == version || $2 == "[" version "]")} ours && !/^## /' CHANGELOG.md | sed -e '/./,$!d'; }

[ $# -ge 2 ] || usage
case "$1" in
check)
	[ $# = 2 ] || usage
	version=$2
	cargo=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
	chart=$(sed -n 's/^version: //p' charts/maxchannel/Chart.yaml)
	app=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' charts/maxchannel/Chart.yaml)
	[ "$cargo" = "$version" ] || fail "Cargo.toml has $cargo and not $version"
	[ "$chart" = "$version" ] || fail "charts/maxchannel/Chart.yaml has the version $chart and not $version"
	[ "$app" = "$version" ] || fail "charts/maxchannel/Chart.yaml has the appVersion $app and not $version"
	[ -n "$(notes "$version")" ] || fail "CHANGELOG.md says nothing of $version"
	;;
binaries)
	[ $# = 4 ] || usage
	version=$2 architecture=$3 folder=$4
	case "$architecture" in amd64) target=x86_64-unknown-linux-gnu ;; arm64) target=aarch64-unknown-linux-gnu ;; *) fail "no such architecture: $architecture (amd64, arm64)" ;; esac
	# --target, though it is the machine's own: the flag must not reach build scripts and procedural macros, which cannot be static.
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --no-default-features --bins --target "$target"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cp LICENSE README.md CHANGELOG.md "$work"
	programs=()
	for program in maxchannel maxchannel-relay; do
		built=target/$target/release/$program
		[ -x "$built" ] || continue
		cp "$built" "$work"
		programs+=("$program")
		! ldd "$built" >/dev/null 2>&1 || fail "$built is not static"
	done
	mkdir -p "$folder"
	pack "$folder/maxchannel-$version-linux-$architecture.tar.gz" "$work" LICENSE README.md CHANGELOG.md "${programs[@]}"
	;;
chart)
	[ $# = 5 ] || usage
	version=$2 image=$3 digest=$4 folder=$5
	helm=${HELM:-$(scripts/tools.sh helm)}
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cp -r charts/maxchannel "$work"
	# What was signed is what runs, unless somebody names another image.
	sed -i -e "s|^  repository: .*|  repository: $image|" -e "s|^  digest: .*|  digest: $digest|" "$work/maxchannel/values.yaml"
	grep -q "^  repository: $image$" "$work/maxchannel/values.yaml" && grep -q "^  digest: $digest$" "$work/maxchannel/values.yaml" || fail "values.yaml has no image to set"
	"$helm" lint --strict --quiet "$work/maxchannel"
	mkdir -p "$folder"
	"$helm" package "$work/maxchannel" --version "$version" --app-version "$version" --destination "$work" >/dev/null
	mv "$work/maxchannel-$version.tgz" "$folder/maxchannel-chart-$version.tgz"
	;;
krew)
	[ $# = 4 ] || usage
	version=$2 url=$3 folder=$4
	# krew links `kubectl-maxchannel` to the program, which goes by the name it is called by.
	{
		cat <<-YAML
			apiVersion: krew.googlecontainertools.github.com/v1alpha2
			kind: Plugin
			metadata: {name: maxchannel}
			spec:
			  version: v$version
			  homepage: ${url%/releases/*}
			  shortDescription: Look after MAX channels and their relays
			  description: |
			    Shows how MaxChannel resources stand and what to do, lists and replays dead letters, reads a relay's
			    log, erases a customer, backs up and restores a relay's store. Needs pods/exec in the channel's namespace.
			  platforms:
		YAML
		for architecture in amd64 arm64; do
			archive=maxchannel-$version-linux-$architecture.tar.gz
			[ -f "$folder/$archive" ] || fail "$folder has no $archive"
			cat <<-YAML
				  - selector: {matchLabels: {os: linux, arch: $architecture}}
				    uri: $url/$archive
				    sha256: $(sha256sum "$folder/$archive" | cut -d ' ' -f 1)
				    files:
				    - {from: maxchannel, to: .}
				    - {from: LICENSE, to: .}
				    bin: maxchannel
			YAML
		done
	} >"$folder/maxchannel-krew.yaml"
	;;
checksums)
	[ $# = 2 ] || usage
	cd "$2"
	rm -f SHA256SUMS
	sha256sum -- *.tar.gz *.tgz *.json *.yaml >SHA256SUMS
	;;
notes)
	[ $# = 2 ] || usage
	text=$(notes "$2")
	[ -n "$text" ] || fail "CHANGELOG.md says nothing of $2"
	printf '%s\n' "$text"
	;;
*) usage ;;
esac
