{{/* Labels of a role; call with (dict "root" $ "role" "node"). */}}
{{- define "vigil.selector" -}}
app.kubernetes.io/name: vigil
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "vigil.labels" -}}
{{ include "vigil.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "vigil.name" -}}
{{ printf "%s-%s" .root.Release.Name .role | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "vigil.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (printf "%s-vigil" .Release.Name) }}
{{- end }}

{{- define "vigil.claim" -}}
{{ .Values.storage.existingClaim | default (printf "%s-data" .Release.Name) }}
{{- end }}

{{/* What every pod of Vigil is; call with (dict "root" $ "image" "worker"). */}}
{{- define "vigil.pod" -}}
serviceAccountName: {{ include "vigil.serviceAccount" .root }}
automountServiceAccountToken: false
# More than a role takes to stop: a worker gives its jobs in hand a minute, and says what it gave back.
terminationGracePeriodSeconds: 100
# Kubernetes would set VIGIL_API_PORT for a service named vigil-api, and overrule the setting of that name.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
volumes:
  - name: data
    {{- if and .root.Values.store.url (ne .role "node") }}
    emptyDir: {}
    {{- else }}
    persistentVolumeClaim: {claimName: {{ include "vigil.claim" .root }}}
    {{- end }}
  - name: peers
    configMap: {name: {{ .root.Release.Name }}-peers}
  - name: database
    secret:
      secretName: {{ .root.Values.database.secretName }}
      defaultMode: 0440
      items: [{key: {{ .root.Values.database.secretKey }}, path: url}]
  - name: site-key
    secret:
      secretName: {{ .root.Values.siteKey.secretName }}
      defaultMode: 0440
      items: [{key: {{ .root.Values.siteKey.secretKey }}, path: site.key}]
  {{- if .root.Values.store.secretName }}
  - name: store-keys
    secret:
      secretName: {{ .root.Values.store.secretName }}
      defaultMode: 0440
      items:
        - {key: {{ .root.Values.store.accessKey }}, path: access-key}
        - {key: {{ .root.Values.store.secretKey }}, path: secret-key}
  {{- end }}
  {{- if and .root.Values.tls.secretName (eq .role "node") }}
  - name: tls
    secret:
      secretName: {{ .root.Values.tls.secretName }}
      defaultMode: 0440
      items:
        - {key: {{ .root.Values.tls.certificateKey }}, path: node.pem}
        - {key: {{ .root.Values.tls.authoritiesKey }}, path: authorities.pem}
  {{- end }}
  {{- with .root.Values.files.secretName }}
  - name: files
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
  - name: scratch
    emptyDir: {}
{{- end }}

{{/* A digest, where the release gave one, decides over the tag. */}}
{{- define "vigil.image" -}}
{{- $name := printf "%s-%s" .root.Values.image.repository .image }}
{{- $digest := index .root.Values.image.digests .image }}
{{- if $digest -}}
{{ printf "%s@%s" $name $digest | quote }}
{{- else -}}
{{ printf "%s:%s" $name (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
{{- end }}
{{- end }}

{{/* Pools of workers that the values ask for. */}}
{{- define "vigil.pools" -}}
infer deliver{{ if int .Values.worker.shadow.replicas }} shadow{{ end }}
{{- end }}

{{/* What every container of Vigil is. */}}
{{- define "vigil.container" -}}
image: {{ include "vigil.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
env:
  - name: VIGIL_DATA
    value: /var/lib/vigil
  - name: VIGIL_PEERS
    value: /etc/vigil/peers/peers.yaml
  - name: VIGIL_KEY_FILE
    value: /etc/vigil/key/site.key
  - name: VIGIL_DATABASE_URL_FILE
    value: /etc/vigil/database/url
  # Work in hand lies on a disk of the machine, not on the shared folder.
  - name: VIGIL_SCRATCH
    value: /tmp/scratch
  {{- if .root.Values.store.url }}
  - name: VIGIL_STORE
    value: {{ .root.Values.store.url | quote }}
  {{- if .root.Values.store.endpoint }}
  - name: VIGIL_STORE_ENDPOINT
    value: {{ .root.Values.store.endpoint | quote }}
  {{- end }}
  {{- if .root.Values.store.secretName }}
  - name: VIGIL_STORE_ACCESS_KEY_FILE
    value: /etc/vigil/store/access-key
  - name: VIGIL_STORE_SECRET_KEY_FILE
    value: /etc/vigil/store/secret-key
  {{- end }}
  {{- end }}
  # One role a pod: each takes the port that is its own.
  - name: VIGIL_METRICS_HOST
    value: 0.0.0.0
  - name: VIGIL_NODE_METRICS_PORT
    value: {{ .root.Values.metrics.port | quote }}
  - name: VIGIL_WORKER_METRICS_PORT
    value: {{ .root.Values.metrics.port | quote }}
  - name: VIGIL_DELIVER_METRICS_PORT
    value: {{ .root.Values.metrics.port | quote }}
  {{- if and .root.Values.tls.secretName (eq .role "node") }}
  - name: VIGIL_TLS_CERTIFICATE
    value: /etc/vigil/tls/node.pem
  - name: VIGIL_TLS_AUTHORITIES
    value: /etc/vigil/tls/authorities.pem
  {{- end }}
  {{- if and .root.Values.api.ingress.host (not .root.Values.settings.address) }}
  # How links begin, the first administrator's among them.
  - name: VIGIL_ADDRESS
    value: {{ printf "https://%s" .root.Values.api.ingress.host | quote }}
  {{- end }}
  {{- range $name, $value := .root.Values.settings }}
  - name: VIGIL_{{ upper $name }}
    {{- /* Helm reads whole numbers as floats: as JSON, 536870912 does not become 5.36870912e+08. */}}
    value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
  {{- end }}
volumeMounts:
  - {name: data, mountPath: /var/lib/vigil}
  - {name: peers, mountPath: /etc/vigil/peers, readOnly: true}
  - {name: database, mountPath: /etc/vigil/database, readOnly: true}
  - {name: site-key, mountPath: /etc/vigil/key, readOnly: true}
  {{- if .root.Values.files.secretName }}
  - {name: files, mountPath: /etc/vigil/files, readOnly: true}
  {{- end }}
  {{- if .root.Values.store.secretName }}
  - {name: store-keys, mountPath: /etc/vigil/store, readOnly: true}
  {{- end }}
  {{- if and .root.Values.tls.secretName (eq .role "node") }}
  - {name: tls, mountPath: /etc/vigil/tls, readOnly: true}
  {{- end }}
  - {name: scratch, mountPath: /tmp}
{{- end }}

{{/* Pods of a role on machines and zones of their own where there are enough. */}}
{{- define "vigil.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "vigil.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{/* Who may ask a role for its metrics; nobody while the list is empty. */}}
{{- define "vigil.metricsIngress" -}}
{{- with .root.Values.metrics.from }}
- from: {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: TCP, port: metrics}
{{- end }}
{{- end }}
