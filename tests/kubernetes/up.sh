#!/usr/bin/env bash
# Starts a Kubernetes for tests and leaves its kubeconfig and an `env` file (to be sourced) in a state folder.
#
#   up.sh [--mode api|control|node] STATE
#
#   api      etcd and kube-apiserver: custom resources, CEL, apply and watch. Needs no root.
#   control  the same and kube-controller-manager: ServiceAccounts, garbage collection, StatefulSets' pods (never run). Needs no root.
#   node     (default) the same, kube-scheduler, and a node with kubelet, containerd and kube-proxy. Needs root.
#
# Run again on a running cluster it changes nothing. Where KUBECONFIG is set, that cluster is checked and used, and nothing is started.
# KUBEBUILDER_ASSETS replaces the built programs. Exit 3: the machine lacks something (said which); 1: something failed.
#
# The control plane listens on the machine, at free ports. The node lives in namespaces of its own (mounts, processes, network), joined to the
# machine by one veth pair: ending its first process ends everything in it, and its bridges, rules and mounts go with it. Source of the settings:
# measured on 2 cores without CAP_SYS_RESOURCE, on cgroup v1 (see README.md).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mode=node
[ "${1:-}" = "--mode" ] && { mode=${2:-}; shift 2; }
case "$mode" in api | control | node) ;; *) say "no such mode: '$mode' (api, control, node)"; exit $EXIT_USAGE ;; esac
[ $# = 1 ] || { say "usage: up.sh [--mode api|control|node] STATE"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")

# ---- An existing cluster -------------------------------------------------------------------------------------------------------------------

if [ -n "${KUBECONFIG:-}" ] && [ "$(realpath -m -- "$KUBECONFIG")" != "$STATE/kubeconfig" ]; then
	kubectl=$(find_kubectl)
	"$kubectl" --request-timeout=15s get --raw /readyz >/dev/null || fail "KUBECONFIG is set to $KUBECONFIG, but that cluster does not answer: start it, or unset KUBECONFIG to have one started"
	mkdir -p "$STATE"
	cat >"$STATE/env" <<-END
		export KUBECONFIG='$KUBECONFIG'
		export CLUSTER_KUBECTL='$kubectl'
		export CLUSTER_MODE=existing
	END
	say "using the cluster of KUBECONFIG=$KUBECONFIG"
	exit 0
fi

if [ -f "$STATE/env" ] && grep -qx "export CLUSTER_MODE=$mode" "$STATE/env" && running kube-apiserver >/dev/null && "$STATE/kubectl" get --raw /readyz >/dev/null 2>&1; then
	say "already running in $STATE"
	exit 0
fi

# ---- What the machine must have ------------------------------------------------------------------------------------------------------------

# A line a need: the Debian package, and a command or file that shows it is there.
needs() {
	echo "openssl openssl"
	echo "python3 python3"
	if [ "$mode" = node ]; then
		echo "containerd containerd"
		echo "runc runc"
		echo "iptables iptables"
		echo "conntrack conntrack"
		echo "ipset ipset" # policies.sh
		echo "iproute2 ip"
		echo "util-linux nsenter"
		[ -n "$(cni_folder)" ] || echo "containernetworking-plugins /usr/lib/cni/ptp"
	fi
}
cni_folder() { for folder in /usr/lib/cni /opt/cni/bin; do [ -x "$folder/ptp" ] && [ -x "$folder/host-local" ] && { echo "$folder"; return; }; done; true; }
absent_packages() { needs | while read -r package probe; do command -v "$probe" >/dev/null || echo "$package"; done | sort -u | tr '\n' ' '; }

if [ "$mode" = node ] && [ "$(id -u)" != 0 ]; then
	missing "a node needs root (namespaces, mounts, containers)$(packages=$(absent_packages); [ -z "$packages" ] || echo ", and these packages: $packages"). Run as root, set KUBECONFIG to a cluster that may be used, or use --mode control"
fi
packages=$(absent_packages)
if [ -n "$packages" ]; then
	{ [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || missing "install these packages first: $packages"
	say "installing $packages"
	mkdir -p "$STATE"
	# shellcheck disable=SC2086  # one word a package
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } >"$STATE/apt.log" 2>&1 ||
		missing "could not install $packages: see $STATE/apt.log"
	[ -z "$(absent_packages)" ] || missing "still missing after the installation: $(absent_packages)"
fi
bin=$(assets)
wanted="etcd kube-apiserver"
[ "$mode" = api ] || wanted+=" kube-controller-manager"
[ "$mode" = node ] && wanted+=" kube-scheduler kube-proxy kubelet"
for program in $wanted; do
	[ -x "$bin/$program" ] || missing "$bin has no $program, which --mode $mode needs: unset KUBEBUILDER_ASSETS to have it built"
done
kubectl=$(find_kubectl)

# ---- A clean start -------------------------------------------------------------------------------------------------------------------------

"$here/down.sh" "$STATE"
rm -rf "$STATE/logs" "$STATE"/audit*.log
mkdir -p "$STATE/pki" "$STATE/logs" "$STATE/pids"
trap 'code=$?; [ $code = 0 ] || { say "not started; what had been started is ended again (logs stay in $STATE/logs)"; "$here/down.sh" "$STATE"; }' EXIT

# A number of its own for each node of this machine: the name of the link, of the control group, and the second byte of the addresses.
number=0
host=127.0.0.1
if [ "$mode" = node ]; then
	for number in $(seq 88 95) 0; do
		[ "$number" = 0 ] && fail "eight test nodes run on this machine already (links mxc88 to mxc95): end one by down.sh STATE"
		# Making the link takes the number, so that two scripts at once cannot both have it.
		ip link add "mxc$number" type veth peer name "mxc$number-node" 2>/dev/null && break
	done
	echo "$number" >"$STATE/number"
	host=10.$number.0.1
	node=10.$number.0.2
	pods=10.$number.128.0/17
	ip address add "$host/30" dev "mxc$number"
	ip link set "mxc$number" up
fi
services_prefix=10.$((number == 0 ? 96 : number + 8)).0
services=$services_prefix.0/16

read -r port_etcd port_peer port_api < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(3)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')
server=https://$host:$port_api

# ---- Certificates and kubeconfigs ----------------------------------------------------------------------------------------------------------

pki=$STATE/pki
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$pki/$1.key" 2>/dev/null; }
# certificate NAME SUBJECT [ALTERNATIVE-NAMES]
certificate() {
	key "$1"
	openssl req -new -key "$pki/$1.key" -subj "$2" -out "$pki/$1.csr" 2>/dev/null
	openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 30 -out "$pki/$1.crt" \
		-extfile <(echo "basicConstraints=CA:FALSE"; echo "extendedKeyUsage=clientAuth,serverAuth"; [ -z "${3:-}" ] || echo "subjectAltName=$3") 2>/dev/null
}
kubeconfig_of() {
	cat >"$2" <<-END
		apiVersion: v1
		kind: Config
		current-context: test
		contexts: [{name: test, context: {cluster: test, user: $1}}]
		clusters: [{name: test, cluster: {server: "$server", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}}]
		users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}}]
	END
	chmod 600 "$2"
}
key ca
openssl req -x509 -new -key "$pki/ca.key" -subj "/CN=test-cluster" -days 30 -addext "keyUsage=critical,keyCertSign,cRLSign,digitalSignature" -out "$pki/ca.crt" 2>/dev/null
certificate apiserver "/CN=kube-apiserver" "IP:127.0.0.1,IP:$host,IP:$services_prefix.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
certificate admin "/O=system:masters/CN=admin"
openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null
openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
kubeconfig_of admin "$STATE/kubeconfig"
if [ "$mode" != api ]; then
	certificate kcm "/CN=system:kube-controller-manager"
	kubeconfig_of kcm "$pki/kcm.kubeconfig"
fi
if [ "$mode" = node ]; then
	certificate sched "/CN=system:kube-scheduler"
	certificate proxy "/CN=system:kube-proxy"
	certificate node1 "/O=system:nodes/CN=system:node:node1" "IP:$node,DNS:node1"
	certificate kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client"
	for user in sched proxy node1; do kubeconfig_of $user "$pki/$user.kubeconfig"; done
fi

# kubectl bound to this cluster, for people and scripts alike.
cat >"$STATE/kubectl" <<-END
	#!/bin/sh
	exec '$kubectl' --kubeconfig '$STATE/kubeconfig' "\$@"
END
chmod +x "$STATE/kubectl"

# ---- Control plane -------------------------------------------------------------------------------------------------------------------------

start etcd "$bin/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync=true --log-level warn --auto-compaction-mode=periodic --auto-compaction-retention=5m --quota-backend-bytes=4294967296 \
	--listen-client-urls "http://127.0.0.1:$port_etcd" --advertise-client-urls "http://127.0.0.1:$port_etcd" \
	--listen-peer-urls "http://127.0.0.1:$port_peer" --initial-advertise-peer-urls "http://127.0.0.1:$port_peer" --initial-cluster "default=http://127.0.0.1:$port_peer"

# Every request is written down, but for those that only show the server to be alive and those of the server to itself: the tests count writes
# per user and compare the permissions used with those granted.
cat >"$STATE/audit-policy.yaml" <<-END
	apiVersion: audit.k8s.io/v1
	kind: Policy
	omitStages: [RequestReceived]
	rules:
	  - {level: None, users: ["system:apiserver"]}
	  - {level: None, nonResourceURLs: ["/healthz*", "/livez*", "/readyz*"]}
	  - {level: Metadata}
END

apiserver=(--etcd-servers="http://127.0.0.1:$port_etcd" --bind-address="$host" --advertise-address="$host" --secure-port="$port_api"
	--tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" --cert-dir="$pki"
	--service-cluster-ip-range="$services" --service-account-issuer=https://kubernetes.default.svc
	--service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" --authorization-mode=Node,RBAC --allow-privileged=true
	--audit-policy-file="$STATE/audit-policy.yaml" --audit-log-path="$STATE/audit.log" --audit-log-maxsize=4096)
case "$mode" in
# Nothing makes ServiceAccounts, or their tokens' Secrets, without the controller manager: pods must be admitted without them.
api) apiserver+=(--endpoint-reconciler-type=none --disable-admission-plugins=ServiceAccount) ;;
control) apiserver+=(--endpoint-reconciler-type=none) ;;
node) apiserver+=(--enable-admission-plugins=NodeRestriction --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key"
	--kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP) ;;
esac
start kube-apiserver "$bin/kube-apiserver" "${apiserver[@]}"
# What is needed to start it again after a test has stopped it: see apiserver.sh.
printf '%s\n' "$bin/kube-apiserver" "${apiserver[@]}" >"$STATE/kube-apiserver.argv"
until_true 60 "the API server was" kube-apiserver "$STATE/kubectl" get --raw /readyz

# The others only now: before the server has made its own roles the controller manager is refused and exits.
if [ "$mode" != api ]; then
	start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig="$pki/kcm.kubeconfig" --authentication-kubeconfig="$pki/kcm.kubeconfig" --authorization-kubeconfig="$pki/kcm.kubeconfig" \
		--use-service-account-credentials=true --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" --leader-elect=false --secure-port=0 --cert-dir="$pki" \
		--kube-api-qps=200 --kube-api-burst=400 --concurrent-statefulset-syncs=20
	until_true 30 "the default ServiceAccount was made" kube-controller-manager "$STATE/kubectl" -n default get serviceaccount default
fi

# ---- The node ------------------------------------------------------------------------------------------------------------------------------

if [ "$mode" = node ]; then
	start kube-scheduler "$bin/kube-scheduler" --kubeconfig="$pki/sched.kubeconfig" --authentication-kubeconfig="$pki/sched.kubeconfig" --authorization-kubeconfig="$pki/sched.kubeconfig" \
		--leader-elect=false --secure-port=0 --cert-dir="$pki"

	mkdir -p "$STATE/node/cni" "$STATE/volumes"
	: >"$STATE/node/resolv.conf"
	# The name of the kubelet's control group in each hierarchy (one on cgroup v2); without one of its own two kubelets end each other's pods.
	for hierarchy in $(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts); do
		[ -w "$hierarchy" ] && mkdir -p "$hierarchy/mxc$number"
	done

	# First process of the node: only there to be ended, and to reap what is orphaned. tmpfs where Kubernetes and containerd keep things at fixed paths.
	# shellcheck disable=SC2016  # expanded inside
	start node unshare --mount --net --pid --fork --mount-proc --kill-child=KILL --propagation slave bash -c '
		set -e
		mount --make-rshared /
		for folder in /run /var/log /var/lib/cni; do mkdir -p "$folder"; mount -t tmpfs node "$folder"; done
		ip link set lo up
		touch "$1/node/begun"
		sleep infinity & while :; do wait; done' node "$STATE"
	until_true 10 "the node's namespaces were made" node test -e "$STATE/node/begun"
	first=$(pgrep -P "$(running node)")
	record node-first "$first"
	inside() { nsenter --target "$first" --mount --net --pid -- "$@"; }
	ip link set "mxc$number-node" netns "$first"
	inside ip address add "$node/30" dev "mxc$number-node"
	inside ip link set "mxc$number-node" up
	inside ip route add default via "$host"
	# A ClusterIP that no Service has: refused at once, where it would otherwise go round between node and machine. Those of Services never get
	# here, kube-proxy rewrites them before.
	inside ip route add unreachable "$services"
	inside sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	ip route add "$pods" via "$node"
	ip route add "$services" via "$node"

	# Point to point instead of a bridge: every packet is routed, so Services work between pods without bridge netfilter. No masquerading: the
	# machine knows the way back to the pods, and nothing else is to be reached from them.
	cat >"$STATE/node/cni/10-test.conflist" <<-END
		{"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "ptp", "ipMasq": false,
		 "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
	END
	# restrict_oom_score_adj: without CAP_SYS_RESOURCE every sandbox dies otherwise ("can't get final child's PID").
	cat >"$STATE/node/containerd.toml" <<-END
		version = 2
		root = "$STATE/node/containerd"
		state = "/run/containerd"
		[grpc]
		  address = "$STATE/node/containerd.sock"
		[plugins."io.containerd.grpc.v1.cri"]
		  restrict_oom_score_adj = true
		  sandbox_image = "localhost/testpod:test"
		  netns_mounts_under_state_dir = true
		[plugins."io.containerd.grpc.v1.cri".cni]
		  bin_dir = "$(cni_folder)"
		  conf_dir = "$STATE/node/cni"
	END
	start containerd nsenter --target "$first" --mount --net --pid -- containerd --config "$STATE/node/containerd.toml"
	until_true 20 "containerd was ready" containerd ctr --address "$STATE/node/containerd.sock" version

	(cd "$here" && CGO_ENABLED=0 GOTOOLCHAIN=local go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$STATE/node/testpod" ./testpod)
	python3 "$here/../../scripts/docker_archive.py" --binary "$STATE/node/testpod" --tag localhost/testpod:test --output "$STATE/node/testpod.tar"

	cat >"$STATE/env" <<-END
		export CLUSTER_CONTAINERD='$STATE/node/containerd.sock'
		export CLUSTER_MODE=node
	END
	"$here/import-image.sh" "$STATE" "$STATE/node/testpod.tar"

	cat >"$STATE/node/kubelet.yaml" <<-END
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		address: $node
		readOnlyPort: 0
		healthzPort: 0
		tlsCertFile: $pki/node1.crt
		tlsPrivateKeyFile: $pki/node1.key
		authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
		authorization: {mode: Webhook}
		containerRuntimeEndpoint: unix://$STATE/node/containerd.sock
		cgroupDriver: cgroupfs
		cgroupRoot: /mxc$number
		failCgroupV1: false
		failSwapOn: false
		resolvConf: $STATE/node/resolv.conf
		# Nobody answers there unless a test makes that Service: names are refused at once, and the kubelet has nothing to warn of.
		clusterDNS: [$services_prefix.10]
		clusterDomain: cluster.local
		podLogsDir: $STATE/node/pod-logs
		maxPods: 250
		kubeAPIQPS: 100
		kubeAPIBurst: 200
		# The machine's disk and memory are not the test's: nothing is evicted, no image collected.
		evictionHard: {memory.available: 50Mi, nodefs.available: 0%, imagefs.available: 0%, nodefs.inodesFree: 0%}
		imageGCHighThresholdPercent: 100
		imageGCLowThresholdPercent: 99
		# A container ended again and again comes back after a second instead of after minutes.
		crashLoopBackOff: {maxContainerRestartPeriod: 1s}
	END
	start kubelet nsenter --target "$first" --mount --net --pid -- "$bin/kubelet" --config="$STATE/node/kubelet.yaml" --kubeconfig="$pki/node1.kubeconfig" \
		--hostname-override=node1 --node-ip="$node" --root-dir="$STATE/node/kubelet"
	start kube-proxy nsenter --target "$first" --mount --net --pid -- "$bin/kube-proxy" --kubeconfig="$pki/proxy.kubeconfig" --hostname-override=node1 --cluster-cidr="$pods" --proxy-mode=iptables \
		--bind-address=127.0.0.1 --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
	until_true 60 "the node was ready" kubelet "$STATE/kubectl" wait --for=condition=Ready node/node1 --timeout=1s
fi

cat >"$STATE/env" <<-END
	export KUBECONFIG='$STATE/kubeconfig'
	export CLUSTER_KUBECTL='$STATE/kubectl'
	export CLUSTER_AUDIT_LOG='$STATE/audit.log'
	# Where a process on this machine is reached from pods, and where it must listen for that.
	export CLUSTER_HOST='$host'
	export CLUSTER_CONTAINERD='$([ "$mode" = node ] && echo "$STATE/node/containerd.sock")'
	export CLUSTER_STATE='$STATE'
	export CLUSTER_MODE=$mode
END
say "running in $STATE: export KUBECONFIG=$STATE/kubeconfig"
