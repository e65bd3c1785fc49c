#!/usr/bin/env bash
# Has NetworkPolicies of a test node enforced, by kube-router's firewall alone, and ends that again. Everything else of the node stays as it is.
#
#   policies.sh STATE start|stop
#
# Exit 3: the machine lacks Go or ipset, or its kernel has no sets of addresses.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 2 ] || { say "usage: policies.sh STATE start|stop"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")
first=$(running node-first) || fail "no node of ours in $STATE: start one by up.sh"
inside() { nsenter --target "$first" --mount --net --pid -- "$@"; }
case "$2" in
start)
	command -v ipset >/dev/null || missing "ipset is missing: install the package ipset"
	inside ipset list -name >/dev/null 2>&1 || missing "the kernel has no ipset: policies cannot be enforced here"
	program=$("$here/../../scripts/tools.sh" kube-router)
	services=$(sed -n 's/.*--service-cluster-ip-range=//p' "$STATE/kube-apiserver.argv" | head -n 1)
	start kube-router nsenter --target "$first" --mount --net --pid -- "$program" --kubeconfig="$STATE/kubeconfig" --hostname-override=node1 \
		--run-firewall=true --run-router=false --run-service-proxy=false --run-loadbalancer=false --service-cluster-ip-range="$services" \
		--iptables-sync-period=1s --health-port=0 --metrics-port=0
	until_true 60 "the rules were made" kube-router sh -c "nsenter --target $first --net -- iptables -S KUBE-ROUTER-FORWARD | grep -q KUBE"
	;;
stop)
	# The program itself, for which nsenter only waits; on its way out it writes its rules once more.
	if waits=$(running kube-router); then pkill -TERM -P "$waits" || true; fi
	for _ in $(seq 100); do running kube-router >/dev/null || break; sleep 0.1; done
	end kube-router
	# Its rules stay otherwise, and its own clean-up needs what runs with the rest of it.
	nsenter --target "$first" --net -- sh -c 'iptables-save -t filter | grep -vE "KUBE-(ROUTER|POD-FW|NWPLCY)" | iptables-restore -T filter'
	;;
*) say "usage: policies.sh STATE start|stop"; exit $EXIT_USAGE ;;
esac
