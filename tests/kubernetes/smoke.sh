#!/usr/bin/env bash
# Shows that the test cluster is a real one and leaves nothing: up; the CRD, a StatefulSet on a volume, a Service and a pod that asks it, all under the
# restricted pod security; the API server away and back; down; nothing left on the machine. About 15 s once everything is built.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -z "${KUBECONFIG:-}" ] || { say "the smoke test is of the cluster that it starts itself: unset KUBECONFIG"; exit $EXIT_USAGE; }
STATE=$(mktemp -d)
trap 'end answer-on-machine; "$here/down.sh" "$STATE"; rm -rf "$STATE"' EXIT
say() { echo "smoke: $*" >&2; }

"$here/up.sh" "$STATE"
. "$STATE/env"
number=$(cat "$STATE/number")
kubectl() { "$CLUSTER_KUBECTL" "$@"; }

if [ -f "$here/../../crds/maxchannels.yaml" ]; then
	kubectl apply --server-side -f "$here/../../crds/maxchannels.yaml"
	kubectl wait --for=condition=Established crd/maxchannels.maxchannel.dev --timeout=20s
else
	say "crds/maxchannels.yaml is not there: the CRD is left out"
fi

"$here/persistent-volumes.sh" "$STATE" 1
security='securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}'
kubectl apply -f - <<END
apiVersion: v1
kind: Namespace
metadata: {name: smoke, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Service
metadata: {name: answer, namespace: smoke}
spec: {selector: {app: answer}, ports: [{name: text, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: answer, namespace: smoke}
spec:
  serviceName: answer
  selector: {matchLabels: {app: answer}}
  template:
    metadata: {labels: {app: answer}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: answer
          image: localhost/testpod:test
          args: [a text through the Service]
          env: [{name: ANSWER_AT, value: ":8080"}]
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
          volumeMounts: [{name: data, mountPath: /data}]
          $security
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
END
kubectl -n smoke rollout status statefulset/answer --timeout=60s
address=$(kubectl -n smoke get service answer -o jsonpath='{.spec.clusterIP}')
start answer-on-machine env ANSWER_AT="$CLUSTER_HOST:8080" "$STATE/node/testpod" "a text from the machine"
kubectl apply -f - <<END
apiVersion: v1
kind: Pod
metadata: {name: ask, namespace: smoke}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: service, image: localhost/testpod:test, env: [{name: ASK, value: "$address:80"}], $security}
    - {name: machine, image: localhost/testpod:test, env: [{name: ASK, value: "$CLUSTER_HOST:8080"}], $security}
END
kubectl -n smoke wait --for=jsonpath='{.status.phase}'=Running pod/ask --timeout=60s

# The command's output holds the text within ten seconds.
shows() {
	local text=$1; shift
	for _ in $(seq 100); do case "$("$@" 2>/dev/null)" in *"$text"*) return ;; esac; sleep 0.1; done
	fail "no \"$text\" from: $*"
}
shows "a text through the Service" kubectl -n smoke logs ask -c service
shows "a text from the machine" kubectl -n smoke logs ask -c machine
end answer-on-machine
shows "a text through the Service" timeout 2 bash -c "cat </dev/tcp/$address/80"
say "a pod and the machine reach a StatefulSet's pod through its Service, and a pod reaches the machine"

"$here/apiserver.sh" "$STATE" stop
! kubectl --request-timeout=2s get --raw /readyz 2>/dev/null || fail "the API server still answers after it was stopped"
"$here/apiserver.sh" "$STATE" start
kubectl -n smoke get pod ask >/dev/null
grep -q '"verb":"create".*"resource":"statefulsets"' "$CLUSTER_AUDIT_LOG" || fail "the audit log $CLUSTER_AUDIT_LOG does not show the StatefulSet's creation"
say "the API server was away and is back with its data, and the audit log shows the writes"

"$here/down.sh" "$STATE"
left=$(
	pgrep -fa -- "$STATE" | grep -v -e "smoke.sh" || true
	grep -F "$STATE" /proc/self/mounts || true
	ip link show "mxc$number" 2>/dev/null || true
	find /sys/fs/cgroup -maxdepth 2 -name "mxc$number" 2>/dev/null || true
)
[ -z "$left" ] || fail "left on the machine: $left"
say "passed: nothing is left on the machine"
