{{/* Names are cut to 63 characters, the limit of a label. */}}
{{- define "maxchannel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "maxchannel.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "maxchannel.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "maxchannel.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "maxchannel.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "maxchannel.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "maxchannel.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Address and port as a socket: IPv6 in brackets. */}}
{{- define "maxchannel.listen" -}}
{{- if contains ":" .Values.listenAddress }}[{{ .Values.listenAddress }}]{{ else }}{{ .Values.listenAddress }}{{ end }}:8080
{{- end -}}

{{/* Who may reach relays and where they may go, as the program reads it. */}}
{{- define "maxchannel.relayNetwork" -}}
{{- $controller := dict
  "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace))
  "podSelector" (dict "matchLabels" (include "maxchannel.selectorLabels" . | fromYaml)) -}}
{{- $release := dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace)) -}}
{{- $monitoring := .Values.networkPolicy.scrapeFrom -}}
{{- /* Who reads the metrics of a PodMonitor only the administrator knows. */ -}}
{{- if and (not $monitoring) (not .Values.podMonitor.enabled) }}{{ $monitoring = list $release }}{{ end -}}
{{- with .Values.networkPolicy -}}
{{- dict "controller" (list $controller) "ingress" .ingressFrom "monitoring" $monitoring "egress" .relayEgress | toJson -}}
{{- end -}}
{{- end -}}

{{/* What never changes for a release: a Deployment's selector cannot. The component tells the controller from the relays that it makes. */}}
{{- define "maxchannel.selectorLabels" -}}
app.kubernetes.io/name: {{ include "maxchannel.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "maxchannel.labels" -}}
{{- with .Values.commonLabels }}
{{- toYaml (omit . "helm.sh/chart" "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by") }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "maxchannel.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* What relays have where their channels say nothing, as JSON; pull secrets in the usual form. */}}
{{- define "maxchannel.relayDefaults" -}}
{{- $secrets := list }}
{{- range (.Values.relay.imagePullSecrets | default .Values.imagePullSecrets) }}
{{- if kindIs "string" . }}
{{- $secrets = append $secrets (dict "name" .) }}
{{- else }}
{{- $secrets = append $secrets (dict "name" .name) }}
{{- end }}
{{- end }}
{{- $defaults := dict "resources" .Values.relay.resources "volumeClaim" .Values.relay.volumeClaim "imagePullSecrets" $secrets }}
{{- $pod := dict }}
{{- range $theirs, $ours := dict "affinity" "affinity" "topologySpreadConstraints" "topologySpreadConstraints" "priorityClassName" "priorityClassName" "labels" "podLabels" "annotations" "podAnnotations" }}
{{- with get $.Values.relay $ours }}{{ $_ := set $pod $theirs . }}{{ end }}
{{- end }}
{{- with .Values.relay.nodeSelector }}{{ $_ := set $defaults "nodeSelector" . }}{{ end }}
{{- with .Values.relay.tolerations }}{{ $_ := set $defaults "tolerations" . }}{{ end }}
{{- with $pod }}{{ $_ := set $defaults "pod" . }}{{ end }}
{{- toJson $defaults }}
{{- end -}}

{{/* The rights in a namespace whose channels are served; the same in a ClusterRole (all namespaces) and in a Role (one). */}}
{{- define "maxchannel.channelRules" -}}
# The channels: watched; patch adds and removes the finalizer, without which a deletion would leave a webhook at MAX and rows in Creatio behind.
- apiGroups: [maxchannel.dev]
  resources: [maxchannels]
  verbs: [list, watch, patch]
# Conditions and what is known of the bot and the relay.
- apiGroups: [maxchannel.dev]
  resources: [maxchannels/status]
  verbs: [patch]
# Owned objects block their channel's deletion (blockOwnerDeletion); where the cluster enforces that (OwnerReferencesPermissionEnforcement) it asks for this.
- apiGroups: [maxchannel.dev]
  resources: [maxchannels/finalizers]
  verbs: [update]
# Credentials: list and watch show when a referenced Secret appears or changes (metadata only), get reads it. The others write and remove the relay's own,
# <channel>-relay, which holds its configuration. Names are free, so that they cannot be listed here.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Before a write each is read (get): what does not carry the channel's controller reference is left alone.
# The relay itself: made, repaired, read for its state, made again where a field cannot be changed.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# The relay's address within the cluster, and its identity, which has no rights and no token.
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# Who may reach a relay, and the way in for webhooks.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.webhook.gateway }}
# The way in at the Gateway that all channels share.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, create, patch, delete]
{{- end }}
# Relay pods: why one does not start is told in the channel's status; patch touches an annotation, so that a changed configuration arrives within a second.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# The relay's volume: read, for whether it was made for this channel; deleted with the channel unless deletionPolicy is Retain.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, patch, delete]
# Why a relay's pod is not made, not placed or not started: the cluster's own words, read while it does not run.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# Events on channels; patch counts a repeated one.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}


{{/*
What the controller's account may do with the rights of its role. A role cannot say "its own objects": these rules do, by what every object of a channel
carries, the name <channel>-relay, the labels of a relay and a controller reference to the MaxChannel of that name. One policy per kind of rule.

A rule sees the object and nothing else, except for its parameters: "volumes" takes every MaxChannel of the object's namespace as one, and must hold for each of
them. That costs the server a look at all channels for one request, so no rule for what is written does so: with a hundred channels in a namespace it was two thirds
of the server's whole work. The uid of a controller reference stays what it was; one that refers to no MaxChannel that is there is the garbage collector's.
*/}}
{{- define "maxchannel.admissionRules" -}}
owned:
  resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], resources: [secrets, services, serviceaccounts], operations: [CREATE, UPDATE, DELETE]}
    - {apiGroups: [apps], apiVersions: ["*"], resources: [statefulsets], operations: [CREATE, UPDATE, DELETE]}
    - {apiGroups: [networking.k8s.io], apiVersions: ["*"], resources: [networkpolicies, ingresses], operations: [CREATE, UPDATE, DELETE]}
    - {apiGroups: [gateway.networking.k8s.io], apiVersions: ["*"], resources: [httproutes], operations: [CREATE, UPDATE, DELETE]}
  validations:
    - message: the controller of MaxChannels writes and deletes only what a MaxChannel controls
      reason: Forbidden
      expression: >-
        [object, oldObject].all(o, o == null || (has(o.metadata.ownerReferences) && o.metadata.ownerReferences.exists(r,
        r.apiVersion.startsWith('maxchannel.dev/') && r.kind == 'MaxChannel' && has(r.controller) && r.controller
        && o.metadata.name == r.name + '-relay')))
    - message: the controller of MaxChannels writes and deletes only objects with the labels of a relay
      reason: Forbidden
      expression: >-
        [object == null ? oldObject : object].all(o, has(o.metadata.labels) && {{ include "maxchannel.relayLabels" "o" }}
        && o.metadata.name == o.metadata.labels['app.kubernetes.io/instance'] + '-relay')
    - message: the controller of MaxChannels gives nothing that one MaxChannel controls to another, by its uid
      reason: Forbidden
      expression: >-
        object == null || oldObject == null || object.metadata.ownerReferences.all(r, !r.apiVersion.startsWith('maxchannel.dev/')
        || oldObject.metadata.ownerReferences.exists(o, o.uid == r.uid))
claims:
  resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], resources: [persistentvolumeclaims], operations: [CREATE, UPDATE, DELETE]}
  validations:
    - message: the controller of MaxChannels touches only the volume claims of relays
      reason: Forbidden
      expression: >-
        oldObject != null && has(oldObject.metadata.labels) && {{ include "maxchannel.relayLabels" "oldObject" }}
        && oldObject.metadata.name == 'data-' + oldObject.metadata.labels['app.kubernetes.io/instance'] + '-relay-0'
volumes:
  forEachChannel: true
  resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], resources: [persistentvolumeclaims], operations: [DELETE]}
  validations:
    - message: the controller of MaxChannels deletes only the volume claim that was made for the very MaxChannel that is there now, by its uid
      reason: Forbidden
      expression: >-
        oldObject.metadata.name != 'data-' + params.metadata.name + '-relay-0' || (has(oldObject.metadata.annotations)
        && 'maxchannel.dev/channel' in oldObject.metadata.annotations
        && oldObject.metadata.annotations['maxchannel.dev/channel'] == params.metadata.uid)
secrets:
  resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], resources: [secrets], operations: [CREATE, UPDATE]}
  validations:
    - message: the controller of MaxChannels writes Secrets of its own data, none for which a token of an account is made
      reason: Forbidden
      expression: "!has(object.type) || object.type == 'Opaque'"
services:
  resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], resources: [services], operations: [CREATE, UPDATE]}
  validations:
    - message: the controller of MaxChannels makes Services within the cluster and takes no address of others
      reason: Forbidden
      expression: >-
        (!has(object.spec.type) || object.spec.type == 'ClusterIP') && (!has(object.spec.externalIPs) || size(object.spec.externalIPs) == 0
        || (oldObject != null && has(oldObject.spec.externalIPs) && object.spec.externalIPs == oldObject.spec.externalIPs))
relays:
  resourceRules:
    - {apiGroups: [apps], apiVersions: ["*"], resources: [statefulsets], operations: [CREATE, UPDATE]}
  validations:
    - message: the controller of MaxChannels runs relays as their own account, without its token and without the node's namespaces
      reason: Forbidden
      expression: >-
        object.spec.template.spec.serviceAccountName == object.metadata.name
        && has(object.spec.template.spec.automountServiceAccountToken) && !object.spec.template.spec.automountServiceAccountToken
        && !(has(object.spec.template.spec.hostNetwork) && object.spec.template.spec.hostNetwork)
        && !(has(object.spec.template.spec.hostPID) && object.spec.template.spec.hostPID)
        && !(has(object.spec.template.spec.hostIPC) && object.spec.template.spec.hostIPC)
        && object.spec.template.spec.containers.all(c, !has(c.securityContext) || !has(c.securityContext.privileged) || !c.securityContext.privileged)
    - message: the controller of MaxChannels mounts into relays their own Secret and nothing else of the namespace or the node
      reason: Forbidden
      expression: >-
        !has(object.spec.template.spec.volumes) || object.spec.template.spec.volumes.all(v, has(v.emptyDir)
        || (has(v.secret) && v.secret.secretName == object.metadata.name)
        || (oldObject != null && has(oldObject.spec.template.spec.volumes) && oldObject.spec.template.spec.volumes.exists(o, o == v)))
pods:
  resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], resources: [pods], operations: [CREATE, UPDATE, DELETE]}
  validations:
    - message: the controller of MaxChannels annotates the pods of relays and does nothing else to pods
      reason: Forbidden
      expression: >-
        object != null && oldObject != null && object.spec == oldObject.spec
        && has(oldObject.metadata.labels) && {{ include "maxchannel.relayLabels" "oldObject" }}
        && object.metadata.labels == oldObject.metadata.labels
        && has(oldObject.metadata.ownerReferences) && oldObject.metadata.ownerReferences.exists(r, r.apiVersion.startsWith('apps/')
        && r.kind == 'StatefulSet' && has(r.controller) && r.controller
        && r.name == oldObject.metadata.labels['app.kubernetes.io/instance'] + '-relay')
channels:
  resourceRules:
    - {apiGroups: [maxchannel.dev], apiVersions: ["*"], resources: [maxchannels], operations: [CREATE, UPDATE, DELETE]}
  validations:
    - message: the controller of MaxChannels changes nothing that a person has written into one
      reason: Forbidden
      expression: object != null && oldObject != null && has(object.spec) == has(oldObject.spec) && (!has(object.spec) || object.spec == oldObject.spec)
{{- end -}}

{{- define "maxchannel.relayLabels" -}}
{{- $object := . -}}
{{- range $label, $value := dict "app.kubernetes.io/managed-by" "maxchannel" "app.kubernetes.io/component" "relay" -}}
'{{ $label }}' in {{ $object }}.metadata.labels && {{ $object }}.metadata.labels['{{ $label }}'] == '{{ $value }}' && {{ end -}}
'app.kubernetes.io/instance' in {{ $object }}.metadata.labels
{{- end -}}
