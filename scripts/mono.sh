#!/usr/bin/env bash
# Installs what compiles and runs the package inside Creatio (creatio/) on this machine: Mono's C# compiler, its runtime and the assemblies that an
# assembly package may reference. Does nothing where they are there. Exit 3: they are missing and cannot be installed here.
set -euo pipefail
if command -v mcs >/dev/null && command -v mono >/dev/null && [ -e /usr/lib/mono/4.5/System.ServiceModel.Web.dll ]; then
	exit 0
fi
exec "$(dirname "${BASH_SOURCE[0]}")/packages.sh" mono mono-mcs mono-runtime libmono-system-servicemodel4.0a-cil libmono-system-servicemodel-web4.0-cil \
	libmono-system-web4.0-cil libmono-system-runtime-serialization4.0-cil libmono-system-data4.0-cil
