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
  - name: scratch
    emptyDir: {}
{{- end }}

{{/* What every container of Vigil is. */}}
{{- define "vigil.container" -}}
image: {{ printf "%s-%s:%s" .root.Values.image.repository .image (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
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
  - name: VIGIL_DATABASE_URL
    valueFrom:
      secretKeyRef:
        name: {{ .root.Values.database.secretName }}
        key: {{ .root.Values.database.secretKey }}
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
  {{- range $name, $value := .root.Values.settings }}
  - name: VIGIL_{{ upper $name }}
    {{- /* Helm reads whole numbers as floats: 536870912 must not become 5.36870912e+08. */}}
    value: {{ ternary (int64 $value) $value (and (kindIs "float64" $value) (eq (floor $value) $value)) | toString | quote }}
  {{- end }}
volumeMounts:
  - {name: data, mountPath: /var/lib/vigil}
  - {name: peers, mountPath: /etc/vigil/peers, readOnly: true}
  - {name: site-key, mountPath: /etc/vigil/key, readOnly: true}
  {{- if .root.Values.store.secretName }}
  - {name: store-keys, mountPath: /etc/vigil/store, readOnly: true}
  {{- end }}
  - {name: scratch, mountPath: /tmp}
{{- end }}

{{/* Brings the database to this version's schema; safe in several pods at once. */}}
{{- define "vigil.migration" -}}
- name: migrate
  args: [db, upgrade]
  {{- include "vigil.container" . | nindent 2 }}
{{- end }}
