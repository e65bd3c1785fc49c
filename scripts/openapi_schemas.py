#!/usr/bin/env python3
"""Writes the JSON Schema of every kind that an API server knows, one file a kind, as kubeconform looks them up: kind-group-version.json.

The server publishes OpenAPI v3 by group and version at /openapi/v3 (Kubernetes API concepts, "OpenAPI V3"). Two things differ from what a strict
check of manifests needs: references point into the document, so each file carries the definitions; and objects are open, so each one that lists its
properties is closed here.
"""

import argparse
import json
import pathlib
import subprocess


def closed(schema):
    """The schema with references into `definitions`, and with unknown properties refused wherever properties are listed."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) for key, value in schema.items() if key != "default"}
    if isinstance(schema.get("$ref"), str):
        out["$ref"] = schema["$ref"].replace("#/components/schemas/", "#/definitions/")
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    # OpenAPI 3.0's way to allow null.
    if schema.get("nullable") is True and isinstance(schema.get("type"), str):
        out["type"] = [schema["type"], "null"]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubectl", required=True, help="the kubectl to ask with; KUBECONFIG names the cluster")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    def get(path: str):
        return json.loads(subprocess.run([arguments.kubectl, "get", "--raw", path], check=True, capture_output=True).stdout)

    written = 0
    for path, entry in get("/openapi/v3")["paths"].items():
        if not path.startswith("api"):
            continue
        schemas = get(entry["serverRelativeURL"]).get("components", {}).get("schemas", {})
        definitions = {name: closed(schema) for name, schema in schemas.items()}
        for name, schema in schemas.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                # kubeconform's KindSuffix: the group's first label and the version.
                suffix = "-".join(part for part in (kind["group"].split(".")[0], kind["version"]) if part)
                file = arguments.output / f"{kind['kind'].lower()}-{suffix.lower()}.json"
                file.write_text(json.dumps({"$ref": f"#/definitions/{name}", "definitions": definitions}))
                written += 1
    if not written:
        raise SystemExit("the API server published no schema of any kind at /openapi/v3")


if __name__ == "__main__":
    main()
