#!/usr/bin/env bash
# What the GitHub Action does: gets the program of a release, unless one is named, and has it check.
#
#   PATHS=… [POLICY=FILE] [SARIF=FILE] [PROGRAM=FILE | RELEASES=URL REF=vVERSION [VERSION=VERSION]] check-in-ci.sh
set -euo pipefail
fail() { echo "::error title=maxchannel check::$*"; exit 2; }

program=${PROGRAM:-}
if [ -z "$program" ]; then
	version=${VERSION:-${REF#v}}
	[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || fail "the version is not known: use the action by a tag v<version>, or give the input version or program"
	case "$(uname -sm)" in "Linux x86_64") architecture=amd64 ;; "Linux aarch64") architecture=arm64 ;; *) fail "there is no program for $(uname -sm)" ;; esac
	folder=$(mktemp -d)
	archive=maxchannel-$version-linux-$architecture.tar.gz
	for file in "$archive" SHA256SUMS; do
		curl --fail --silent --show-error --location --retry 3 --output "$folder/$file" "$RELEASES/v$version/$file" || fail "$RELEASES/v$version/$file cannot be fetched"
	done
	(cd "$folder" && sha256sum --check --strict --ignore-missing --quiet SHA256SUMS) || fail "$archive is not what SHA256SUMS says"
	tar -xzf "$folder/$archive" -C "$folder" maxchannel
	program=$folder/maxchannel
fi

arguments=()
while IFS= read -r path; do [ -z "$path" ] || arguments+=(-f "$path"); done <<<"${PATHS:-}"
[ "${#arguments[@]}" -gt 0 ] || fail "no paths are given"
[ -z "${POLICY:-}" ] || arguments+=(--policy "$POLICY")
if [ -n "${SARIF:-}" ]; then
	# The notes below say it, too.
	"$program" check "${arguments[@]}" -o sarif >"$SARIF" || [ $? = 1 ]
fi
exec "$program" check "${arguments[@]}" -o github
