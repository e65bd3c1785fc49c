#!/usr/bin/env bash
# Ends the cluster of a state folder and takes away what it made on the machine; logs and audit.log stay for reading.
#
#   down.sh STATE
#
# May be run again, after a crash, or where nothing runs. A cluster that KUBECONFIG named is not ours and left alone.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 1 ] || { say "usage: down.sh STATE"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")

# What a test has stopped must run to be buried: the node waits for its processes, and they for whoever entered it with them.
if waits=$(running kubelet); then
	for pid in "$waits" $(pgrep -P "$waits"); do kill -CONT "$pid" 2>/dev/null || true; done
fi
# The node first: with its first process the kernel ends every process of its namespaces (containers and shims too), and with those its mounts
# and rules are gone. SIGKILL throughout: an API server asked to stop waits up to 80 s for its watchers, and no data is kept anyway.
for name in kube-router node-first node kubelet kube-proxy containerd kube-scheduler kube-controller-manager kube-apiserver etcd; do end "$name"; done

if [ -f "$STATE/number" ]; then
	number=$(cat "$STATE/number")
	ip link delete "mxc$number" 2>/dev/null || true # gone already where the namespace was faster
	for hierarchy in $(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts); do
		[ -d "$hierarchy/mxc$number" ] || continue
		for _ in $(seq 50); do
			find "$hierarchy/mxc$number" -depth -type d -exec rmdir {} + 2>/dev/null || true
			[ -d "$hierarchy/mxc$number" ] || break
			sleep 0.1 # a group is busy until the kernel has buried its last process
		done
		[ ! -d "$hierarchy/mxc$number" ] || fail "the control group $hierarchy/mxc$number cannot be removed: a process may still be in it"
	done
fi
rm -rf "${STATE:?}"/{node,etcd,pki,pids,volumes,number,kubeconfig,kubectl,env,kube-apiserver.argv,audit-policy.yaml}
