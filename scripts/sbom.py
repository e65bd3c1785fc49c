#!/usr/bin/env python3
"""Writes what the released program is built from, as CycloneDX 1.5: every crate that is linked into it, with version, licence, checksum and what it needs.

   sbom.py OUTPUT

Made of cargo's own tree, metadata and lock file, and the same for the same lock file. A crate without checksum or licence is a failure.
"""

import json
import pathlib
import re
import subprocess
import sys
import uuid

ROOT = pathlib.Path(__file__).parent.parent
# As release.sh builds it. The other architecture links the same crates but for a few of the processor's own.
TARGET = "x86_64-unknown-linux-gnu"


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def checksums():
    """By name and version, from the lock file."""
    text = (ROOT / "Cargo.lock").read_text()
    found = re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([0-9a-f]{64})"', text)
    return {(name, version): checksum for name, version, checksum in found}


def linked(metadata, root):
    """Ids of what is linked into the root, each with what it needs: neither build scripts' nor tests' crates."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    needs, waiting = {}, [root]
    while waiting:
        one = waiting.pop()
        if one not in needs:
            needs[one] = sorted(dep["pkg"] for dep in nodes[one]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"]))
            waiting += needs[one]
    return needs


def tree():
    """Name and version of every crate that is linked in."""
    options = ["--no-default-features", "--edges", "normal", "--target", TARGET, "--prefix", "none", "--format", "{p}"]
    lines = cargo("tree", "--locked", "--package", "maxchannel", *options).splitlines()
    return {(name, version.removeprefix("v")) for name, version in (line.split()[:2] for line in lines if line.strip())}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: sbom.py OUTPUT")
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--no-default-features", "--filter-platform", TARGET))
    packages = {package["id"]: package for package in metadata["packages"]}
    [root] = [package["id"] for package in metadata["packages"] if package["name"] == "maxchannel"]
    needs, sums = linked(metadata, root), checksums()
    # The metadata counts what only tests ask of a crate, too; the tree is that of the program alone.
    built = tree()
    place = {(packages[one]["name"], packages[one]["version"]): one for one in needs}
    if built - set(place):
        sys.exit(f"sbom: cargo's metadata lacks {sorted(built - set(place))}")
    kept = {place[one] for one in built}
    needs = {one: [need for need in needs[one] if need in kept] for one in kept}

    def purl(package):
        return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"

    def component(package):
        made = {
            "type": "application" if package["id"] == root else "library",
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(package),
        }
        if package.get("license"):
            # Cargo took a stroke for OR before SPDX had it.
            made["licenses"] = [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}]
        elif package.get("license_file"):
            made["licenses"] = [{"license": {"name": f"the file {pathlib.Path(package['license_file']).name} of the crate"}}]
        checksum = sums.get((package["name"], package["version"]))
        if checksum:
            made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package.get("description"):
            made["description"] = " ".join(package["description"].split())
        return made

    order = sorted(needs, key=lambda one: (packages[one]["name"], packages[one]["version"]))
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[root])},
        "components": [component(packages[one]) for one in order if one != root],
        "dependencies": [{"ref": purl(packages[one]), "dependsOn": sorted({purl(packages[need]) for need in needs[one]})} for one in order],
    }
    bill["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True)).urn

    unsure = [one["name"] for one in bill["components"] if "hashes" not in one or "licenses" not in one]
    if unsure:
        sys.exit(f"sbom: no checksum or licence of {unsure}")
    output = pathlib.Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(bill, ensure_ascii=False, indent=2) + "\n")
    print(f"sbom: {output}: {len(bill['components'])} components")


main()
