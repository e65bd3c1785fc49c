#!/usr/bin/env bash
# Makes persistent volumes for the claims of StatefulSets: folders of the machine, without a storage class, as nothing provisions any here.
#
#   persistent-volumes.sh STATE COUNT [SIZE]
#
# Adds COUNT volumes of SIZE (1Gi by default) each time it is run. A volume serves one claim once and is not used again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 2 ] || [ $# = 3 ] || { say "usage: persistent-volumes.sh STATE COUNT [SIZE]"; exit $EXIT_USAGE; }
STATE=$(state_folder "$1")
[ -f "$STATE/env" ] || fail "no cluster runs in $STATE: start one by up.sh"
. "$STATE/env"
[ "$CLUSTER_MODE" != existing ] || { say "a cluster of your own provides its volumes itself: none made"; exit 0; }
mkdir -p "$STATE/volumes"
for _ in $(seq "$2"); do
	folder=$(mktemp -d "$STATE/volumes/XXXXXXXX")
	# Whoever the pod runs as must write there: fsGroup does not change a hostPath.
	chmod 0777 "$folder"
	cat <<-END
		---
		apiVersion: v1
		kind: PersistentVolume
		metadata: {name: test-$(basename "$folder" | tr '[:upper:]' '[:lower:]')-$RANDOM}
		spec:
		  capacity: {storage: ${3:-1Gi}}
		  accessModes: [ReadWriteOnce]
		  persistentVolumeReclaimPolicy: Retain
		  hostPath: {path: "$folder", type: Directory}
	END
done | "$CLUSTER_KUBECTL" create -f - >&2
