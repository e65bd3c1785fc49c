#!/usr/bin/env python3
"""Writes a container image with a static binary, those beside it, and nothing else, as a docker-archive tar, without a container engine.

The archive holds manifest.json, the configuration and one layer, each named after its SHA-256 (Docker image specification v1.2, "Combined Image
JSON + Filesystem Changeset Format"), as `docker load` and `ctr images import` take it. The same binary gives the same bytes: every time is zero.
"""

import argparse
import hashlib
import io
import json
import pathlib
import tarfile


def add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o444) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def tar(files: list[tuple[str, bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content, mode in files:
            add(archive, name, content, mode)
    return buffer.getvalue()


def image(binaries: list[pathlib.Path], tag: str) -> bytes:
    name = binaries[0].name
    layer = tar([(binary.name, binary.read_bytes(), 0o555) for binary in binaries])
    layer_id = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        # With the path `kubectl exec POD -- maxchannel …` finds it.
        "config": {"Entrypoint": [f"/{name}"], "Env": ["PATH=/"], "User": "65532:65532", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_id}"]},
        "history": [{"created_by": f"COPY {' '.join(binary.name for binary in binaries)} /"}],
    }, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": [f"{layer_id}.tar"]}]).encode()
    return tar([(config_name, config, 0o444), (f"{layer_id}.tar", layer, 0o444), ("manifest.json", manifest, 0o444)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="a statically linked x86-64 program")
    parser.add_argument("--beside", type=pathlib.Path, action="append", default=[], help="another that lies beside it")
    parser.add_argument("--tag", required=True, help="name:tag of the image")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    binaries = [arguments.binary, *arguments.beside]
    for binary in binaries:
        with binary.open("rb") as file:
            if b"/ld-linux" in file.read(4096):
                raise SystemExit(f"{binary} is linked dynamically and would not start in an image without libraries: build it with -C target-feature=+crt-static")
    new = arguments.output.with_suffix(".new")
    new.write_bytes(image(binaries, arguments.tag))
    new.replace(arguments.output)


if __name__ == "__main__":
    main()
