#!/usr/bin/env bash
# Writes target/maxchannel.cdx.json: what the released program is built from, as CycloneDX. Checked against cargo's own tree: nothing is missing.
#
#   sbom.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cyclonedx=$(scripts/tools.sh cargo-cyclonedx)
target=x86_64-unknown-linux-gnu
# It writes beside each manifest of the workspace.
name=maxchannel.cdx
trap 'rm -f "$name.json" crates/*/"$name.json"' EXIT
PATH="$(dirname "$cyclonedx"):$PATH" cargo cyclonedx --quiet --format json --spec-version 1.5 --describe crate --target "$target" --no-default-features --override-filename "$name"
mkdir -p target
mv "$name.json" target/maxchannel.cdx.json
cargo tree --locked --package maxchannel --no-default-features --edges normal --target "$target" --prefix none --format '{p}' >target/maxchannel.tree
python3 - target/maxchannel.cdx.json target/maxchannel.tree <<'PYTHON'
import json, sys

bill = json.load(open(sys.argv[1]))
built = {tuple(line.split()[:2]) for line in open(sys.argv[2]) if line.strip()}
built = {(name, version.removeprefix("v")) for name, version in built}
root = bill["metadata"]["component"]
listed = {(one["name"], one["version"]): one for one in bill["components"]}
faults = []
if (bill["bomFormat"], bill["specVersion"]) != ("CycloneDX", "1.5"):
    faults.append("it is no CycloneDX 1.5")
if root["name"] != "maxchannel":
    faults.append(f"it is about {root['name']}")
faults += [f"{name} {version} is missing" for name, version in sorted(built - set(listed) - {(root['name'], root['version'])})]
faults += [f"{name} has no {what}" for (name, _), one in listed.items() for what in ("purl", "licenses") if not one.get(what)]
if faults:
    sys.exit("sbom: target/maxchannel.cdx.json: " + "; ".join(faults))
print(f"sbom: target/maxchannel.cdx.json: {len(listed)} components")
PYTHON
