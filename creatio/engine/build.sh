#!/bin/sh
# Compiles the stand-ins, the package and the host with mcs, four times: .NET and .NET Framework, 8.1 and 8.2.
# The package sees exactly the references of an assembly package: what is missing there must not compile here.
# usage: creatio/engine/build.sh OUT [net-8.1 | net-8.2 | framework-8.1 | framework-8.2]
set -eu
out=$1
only=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
package=$here/../src
stubs=$here/stubs

command -v mcs >/dev/null 2>&1 || { echo "mcs is missing: scripts/mono.sh installs it" >&2; exit 1; }

compile() { # TARGET REFERENCES… -- SOURCES…
	target=$1
	shift
	references="-r:System.dll -r:System.Core.dll"
	while [ "$1" != -- ]; do
		references="$references -r:$1"
		shift
	done
	shift
	kind=library
	[ "${target##*.}" = exe ] && kind=exe
	# shellcheck disable=SC2086
	mcs -nologo -noconfig -langversion:7 -warn:3 -target:$kind -lib:"$dir" $defines $references -out:"$dir/$target" "$@"
}

for runtime in net framework; do
	for site in 8.1 8.2; do
		[ -z "$only" ] || [ "$only" = "$runtime-$site" ] || continue
		dir=$out/$runtime-$site
		mkdir -p "$dir"
		if [ $runtime = net ]; then
			defines="-define:NETSTANDARD2_0"
			services="Terrasoft.ServiceModel.Primitives.dll"
			web=""
		else
			defines="-define:NETFRAMEWORK"
			services="System.ServiceModel.dll System.ServiceModel.Activation.dll System.ServiceModel.Web.dll"
			web="System.Web.dll"
		fi
		[ $site = 8.2 ] && defines="$defines -define:SITE_8_2"
		core="Terrasoft.Common.dll Terrasoft.Core.dll"
		chat="OmnichannelProviders.dll OmnichannelMessaging.dll Terrasoft.Configuration.dll"
		compile Common.Logging.dll -- "$stubs/Common.Logging.cs"
		compile Terrasoft.Common.dll System.Data.dll -- "$stubs/Terrasoft.Common.cs"
		compile Terrasoft.Core.dll System.Data.dll System.Xml.dll Terrasoft.Common.dll -- \
			"$stubs/Terrasoft.Core.cs" "$stubs/Database.cs" "$stubs/Json.cs"
		compile Terrasoft.Web.Http.Abstractions.dll -- "$stubs/Terrasoft.Web.Http.Abstractions.cs"
		compile Terrasoft.Web.Common.dll $core Terrasoft.Web.Http.Abstractions.dll -- "$stubs/Terrasoft.Web.Common.cs"
		[ $runtime = net ] && compile Terrasoft.ServiceModel.Primitives.dll -- "$stubs/Terrasoft.ServiceModel.Primitives.cs"
		compile OmnichannelProviders.dll -- "$stubs/OmnichannelProviders.cs"
		compile OmnichannelMessaging.dll $core OmnichannelProviders.dll -- "$stubs/OmnichannelMessaging.cs"
		compile Terrasoft.Configuration.dll $core Terrasoft.Web.Common.dll Terrasoft.Web.Http.Abstractions.dll \
			OmnichannelProviders.dll OmnichannelMessaging.dll -- "$stubs/Terrasoft.Configuration.cs"
		# Of the package: what `Files/MaxChannel.csproj` names, and nothing else.
		compile MaxChannel.dll System.Data.dll System.Xml.dll System.Runtime.Serialization.dll $services $web $core \
			Terrasoft.Web.Common.dll Terrasoft.Web.Http.Abstractions.dll Common.Logging.dll $chat -- "$package"/*.cs
		compile engine.exe System.Runtime.Serialization.dll System.Xml.dll $services $core Terrasoft.Web.Common.dll \
			Terrasoft.Web.Http.Abstractions.dll OmnichannelProviders.dll OmnichannelMessaging.dll Terrasoft.Configuration.dll \
			-- "$here"/*.cs
	done
done
