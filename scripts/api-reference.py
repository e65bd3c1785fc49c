#!/usr/bin/env python3
"""Writes docs/reference/api.md from the CustomResourceDefinition: every field with type, default and meaning.

  scripts/api-reference.py < crds/maxchannels.yaml > docs/reference/api.md

Needs nothing beside Python and PyYAML. The order is that of the definition."""
import sys

import yaml


def kind(schema):
    if schema.get("x-kubernetes-int-or-string"):
        return "number or string"
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if "enum" in schema:
        return " · ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    if schema.get("type") == "object" and "additionalProperties" in schema and "properties" not in schema:
        return "map"
    return schema.get("type", "any")


def limits(schema):
    said = []
    for name, words in (("minimum", "at least"), ("maximum", "at most"), ("minLength", "at least {} characters"),
                        ("maxLength", "at most {} characters"), ("minItems", "at least {} entries"),
                        ("maxItems", "at most {} entries")):
        if name in schema:
            number = f"{schema[name]:g}"
            said.append(words.format(number) if "{}" in words else f"{words} {number}")
    if "default" in schema:
        said.append(f"default `{schema['default']}`")
    return ", ".join(said)


def cell(text):
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def rows(schema, path):
    required = set(schema.get("required", []))
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        inner = field.get("items", field) if field.get("type") == "array" else field
        here += "[]" if field.get("type") == "array" else ""
        if "x-kubernetes-preserve-unknown-fields" in inner and "properties" not in inner:
            inner = {}
        shown = f"`{here}`" + (" **required**" if name in required else "")
        extra = limits(field)
        yield f"| {shown} | {kind(field)}{'; ' + extra if extra else ''} | {cell(field.get('description'))} |"
        if inner.get("type") == "object":
            yield from rows(inner, here)


def main():
    definition = yaml.safe_load(sys.stdin)
    print("# API reference\n\nMade from `crds/maxchannels.yaml` by `make generate`. The same texts: `kubectl explain maxchannel.spec`.\n")
    for version in definition["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        print(f"`{definition['spec']['group']}/{version['name']}`, kind `{definition['spec']['names']['kind']}`, "
              f"short name `{', '.join(definition['spec']['names'].get('shortNames', []))}`\n")
        print(cell(schema.get("description")) + "\n")
        for part in ("spec", "status"):
            print(f"## {part}\n\n| Field | Type | Meaning |\n|---|---|---|")
            for row in rows(schema["properties"][part], ""):
                print(row)
            print()


main()
