#!/usr/bin/env bash
# Installs what compiles and runs the package inside Creatio (creatio/) on this machine: Mono's C# compiler, its runtime and the assemblies that an
# assembly package may reference. Does nothing where they are there. Exit 3: they are missing and cannot be installed here.
set -euo pipefail
packages="mono-mcs mono-runtime libmono-system-servicemodel4.0a-cil libmono-system-servicemodel-web4.0-cil libmono-system-web4.0-cil
	libmono-system-runtime-serialization4.0-cil libmono-system-data4.0-cil"
if command -v mcs >/dev/null && command -v mono >/dev/null && [ -e /usr/lib/mono/4.5/System.ServiceModel.Web.dll ]; then
	exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "mono: install these packages first:" $packages >&2
	exit 3
fi
log=$(mktemp)
echo "mono: installing it (once)" >&2
# shellcheck disable=SC2086 # the list of packages is meant to be split
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } >"$log" 2>&1 || {
	tail -n 20 "$log" >&2
	echo "mono: it could not be installed: see $log" >&2
	exit 3
}
rm -f "$log"
