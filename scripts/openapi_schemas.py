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


def closed(schema: dict) -> dict:
    """The schema with references into `definitions`, and with unknown properties refused wherever properties are listed."""
    out = dict(schema)
    if "$ref" in schema:
        out["$ref"] = schema["$ref"].replace("#/components/schemas/", "#/definitions/")
    # By keyword, never over every member: a kind may have a property that is called "properties" or "default" (a CRD's schema has both).
    for keyword in ("allOf", "anyOf", "oneOf"):
        if keyword in schema:
            out[keyword] = [closed(part) for part in schema[keyword]]
    for keyword in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(keyword), dict):
            out[keyword] = closed(schema[keyword])
    if "properties" in schema:
        out["properties"] = {name: closed(part) for name, part in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
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
