#!/usr/bin/env bash
# Writes the chart's README from values.yaml and README.md.gotmpl. With --check it only says whether it is stale, for CI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in "" | --check) ;; *) echo "usage: chart-readme.sh [--check]" >&2; exit 2 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r charts "$work/charts"
"$(scripts/tools.sh helm-docs)" --log-level error --chart-search-root "$work/charts" --template-files README.md.gotmpl --sort-values-order file
if [ "${1:-}" = --check ]; then
	cmp -s "$work/charts/maxchannel/README.md" charts/maxchannel/README.md ||
		{ echo "charts/maxchannel/README.md is stale: run scripts/chart-readme.sh and commit it" >&2; exit 1; }
else
	cp "$work/charts/maxchannel/README.md" charts/maxchannel/README.md
fi
