#!/usr/bin/env bash
# The documentation site.
#
#   docs.sh check | serve [ADDRESS] | reference
#
# `check` builds it into target/site and fails on a link or an anchor that does not open, `reference` writes docs/reference/api.md from the
# definition. The generator is installed once into the
# user's cache, by Python's own venv; where it cannot be, that is said, and nothing is checked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
wanted=$(sha256sum scripts/docs-requirements.txt | cut -c1-12)
venv="${XDG_CACHE_HOME:-$HOME/.cache}/maxchannel/docs-$wanted"
install() {
	[ ! -e "$venv/.complete" ] || return 0
	echo "docs: installing the generator (once)" >&2
	mkdir -p "$(dirname "$venv")"
	{ python3 -m venv "$venv" && "$venv/bin/pip" --quiet --disable-pip-version-check install -r scripts/docs-requirements.txt; } >&2 || return 1
	touch "$venv/.complete"
}
export NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true
case "${1:-}" in
check)
	install || { echo "docs: the generator cannot be installed here, so the site is not checked" >&2; exit 0; }
	"$venv/bin/python" scripts/api-reference.py <crds/maxchannels.yaml | diff - docs/reference/api.md >/dev/null ||
		{ echo "docs: docs/reference/api.md is stale: run make generate" >&2; exit 1; }
	"$venv/bin/mkdocs" --quiet build --strict
	echo "docs: $(find target/site -name '*.html' | wc -l) pages built, every link opens"
	;;
serve)
	install
	exec "$venv/bin/mkdocs" serve --dev-addr "${2:-127.0.0.1:8000}"
	;;
reference)
	install
	"$venv/bin/python" scripts/api-reference.py <crds/maxchannels.yaml >docs/reference/api.md.new
	mv docs/reference/api.md.new docs/reference/api.md
	;;
*) echo "usage: docs.sh check | serve [ADDRESS] | reference" >&2; exit 2 ;;
esac
