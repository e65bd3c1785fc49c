# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share. Sourced, never run.
#
# Owns: where things lie in a state folder, how a process is started, recorded and ended, how prerequisites are found.
# A state folder holds everything of one cluster: kubeconfig, env, audit.log, pki/, logs/, pids/, etcd/, node/, volumes/.
# Invariant: only processes recorded in pids/ are ever ended, and only while pid and start time both still match.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Exit codes: 1 something failed, 2 wrong usage, 3 the machine lacks something (a caller may skip, loudly; CI must not).
EXIT_USAGE=2
EXIT_MISSING=3

say() { echo "cluster: $*" >&2; }
fail() { say "$*"; exit 1; }
missing() { say "$*"; exit "$EXIT_MISSING"; }

# An absolute state folder from the argument; sockets below it must stay under the kernel's 107 bytes.
state_folder() {
	local folder
	folder=$(realpath -m -- "$1")
	[ "${#folder}" -le 70 ] || fail "the state folder $folder is too long for the sockets in it (70 bytes at most): choose another"
	echo "$folder"
}

# The moment a process began, in clock ticks: with the pid it names one process for ever, since pids are used again. Nothing for a process
# that has ended and only waits for its parent to notice.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}'; }

record() { mkdir -p "$STATE/pids"; echo "$2 $(started_at "$2")" >"$STATE/pids/$1"; }

# Prints the pid recorded under a name while that very process still runs.
running() {
	local pid began
	[ -f "$STATE/pids/$1" ] || return 1
	read -r pid began <"$STATE/pids/$1"
	[ -n "$began" ] && [ "$(started_at "$pid")" = "$began" ] && echo "$pid"
}

# start NAME COMMAND…: in the background and detached from the terminal, so that Ctrl-C in a test run does not reach it, output in logs/NAME.log.
start() {
	local name=$1; shift
	mkdir -p "$STATE/logs"
	setsid "$@" </dev/null >>"$STATE/logs/$name.log" 2>&1 9>&- &
	record "$name" $!
	disown
}

# end NAME [SIGNAL]: ends the recorded process and waits until it is gone.
end() {
	local pid signal=${2:-KILL}
	if pid=$(running "$1"); then
		kill "-$signal" "$pid" 2>/dev/null || true
		kill -CONT "$pid" 2>/dev/null || true
		for _ in $(seq 100); do running "$1" >/dev/null || break; sleep 0.05; done
		if running "$1" >/dev/null; then kill -KILL "$pid" 2>/dev/null || true; while running "$1" >/dev/null; do sleep 0.05; done; fi
	fi
	rm -f "$STATE/pids/$1"
}

# until_true SECONDS WHAT NAME COMMAND…: polls the command; fails with the end of NAME's log when that process is gone or the time is up.
until_true() {
	local seconds=$1 what=$2 name=$3 deadline; shift 3
	deadline=$((SECONDS + seconds))
	until "$@" >/dev/null 2>&1; do
		if ! running "$name" >/dev/null || [ $SECONDS -ge $deadline ]; then
			tail -n 15 "$STATE/logs/$name.log" >&2 || true
			fail "$what not within $seconds s; the log is $STATE/logs/$name.log"
		fi
		sleep 0.1
	done
}

# The folder of a program of the cluster: the user's KUBEBUILDER_ASSETS, else our own build.
assets() {
	if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
		[ -x "$KUBEBUILDER_ASSETS/kube-apiserver" ] && [ -x "$KUBEBUILDER_ASSETS/etcd" ] ||
			missing "KUBEBUILDER_ASSETS is $KUBEBUILDER_ASSETS, where kube-apiserver or etcd is missing: put them there, or unset it to have them built"
		echo "$KUBEBUILDER_ASSETS"
	else
		"$here/build.sh"
	fi
}

# kubectl of the cluster's own release where there is one, else the machine's.
find_kubectl() {
	local candidate
	for candidate in "${KUBEBUILDER_ASSETS:-/nonexistent}/kubectl" "$("$here/build.sh" --where)/kubectl" "$(command -v kubectl || true)"; do
		[ -x "$candidate" ] && { echo "$candidate"; return; }
	done
	missing "kubectl is missing: install it, or unset KUBECONFIG and KUBEBUILDER_ASSETS to have it built"
}
