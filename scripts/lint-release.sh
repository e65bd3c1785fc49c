#!/usr/bin/env bash
# Everything that can be said of a release without a registry: workflows, versions and changelog, the packaged chart, the SBOM.
#
#   lint-release.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { echo "lint-release: $*" >&2; exit 1; }
actionlint=$(scripts/tools.sh actionlint)
# Its shell checks need shellcheck, which is used where it is.
"$actionlint" -no-color .github/workflows/*.yml
# A tag can be moved, a commit cannot.
loose=$(grep -nE '^ *(- )?uses: ' .github/workflows/*.yml | grep -vE 'uses: (\./|[^@ ]+@[0-9a-f]{40} # v[0-9])' || true)
[ -z "$loose" ] || fail "these actions are not held to a commit: $loose"
"$(scripts/tools.sh python-yaml)" - .gitlab/release.gitlab-ci.yml <<'PYTHON'
import sys, yaml

header, jobs = yaml.safe_load_all(open(sys.argv[1]))
assert header["spec"]["inputs"], "no inputs"
for name, job in jobs.items():
    if name == "stages" or name.startswith("."):
        continue
    assert job["stage"] in jobs["stages"], f"{name}: its stage is not listed"
    assert job["script"] and jobs[job["extends"]], f"{name}: no script"
PYTHON
version=$(sed -n 's/^version: //p' charts/maxchannel/Chart.yaml)
scripts/release.sh check "$version"
scripts/release.sh check 0.0.0-none 2>/dev/null && fail "a version that nothing names passes"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
scripts/release.sh chart "$version" registry.example/owner/maxchannel "$digest" "$work"
rendered=$("$(scripts/tools.sh helm)" template release "$work/maxchannel-chart-$version.tgz" --namespace maxchannel)
grep -q "image: \"registry.example/owner/maxchannel@$digest\"" <<<"$rendered" || fail "the packaged chart runs another image than the one that was signed"
tar -tzf "$work/maxchannel-chart-$version.tgz" | grep -E '/(tests/values|ci|tests/__snapshot__)/' && fail "the packaged chart brings its own tests along"
for architecture in amd64 arm64; do echo "$architecture" >"$work/maxchannel-$version-linux-$architecture.tar.gz"; done
scripts/release.sh krew "$version" "https://git.example/owner/maxchannel/releases/download/v$version" "$work"
"$(scripts/tools.sh python-yaml)" - "$work" "$version" <<'PYTHON'
import hashlib, pathlib, re, sys, yaml

folder, version = pathlib.Path(sys.argv[1]), sys.argv[2]
plugin = yaml.safe_load((folder / "maxchannel-krew.yaml").read_text())
spec = plugin["spec"]
assert (plugin["kind"], plugin["metadata"]["name"], spec["version"]) == ("Plugin", "maxchannel", "v" + version)
assert spec["homepage"] == "https://git.example/owner/maxchannel" and len(spec["shortDescription"]) <= 50
assert [one["selector"]["matchLabels"]["arch"] for one in spec["platforms"]] == ["amd64", "arm64"]
for one in spec["platforms"]:
    archive = folder / one["uri"].rsplit("/", 1)[1]
    assert one["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest(), archive
    assert one["bin"] in [file["from"] for file in one["files"]]
PYTHON
touch "$work/a.json"
scripts/release.sh checksums "$work"
(cd "$work" && sha256sum --check --strict --quiet SHA256SUMS)
python3 scripts/sbom.py target/maxchannel.cdx.json
