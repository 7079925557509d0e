{{- define "exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "exporter.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "exporter.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "exporter.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Not the labels of the exporter's own pods, which the Service would choose too. */}}
{{- define "exporter.testLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . | trunc 58 | trimSuffix "-" }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "exporter.labels" -}}
{{ include "exporter.labelsWith" (list . dict) }}
{{- end -}}

{{/* The labels of all objects, and an object's own, which win over the common ones. */}}
{{- define "exporter.labelsWith" -}}
{{- $own := index . 1 | default dict -}}
{{- with index . 0 -}}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with merge (deepCopy $own) (.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "exporter.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "exporter.secretName" -}}
{{- .Values.credential.existingSecret | default (printf "%s-credential" (include "exporter.fullname" . | trunc 52 | trimSuffix "-")) -}}
{{- end -}}

{{- define "exporter.scheme" -}}
{{- if and .Values.webConfig.existingSecret .Values.webConfig.tls -}}https{{- else -}}http{{- end -}}
{{- end -}}

{{/* One flag a line. Helm reads every number of the values as a float: without int64, a million would become 1e+06. */}}
{{- define "exporter.args" -}}
{{- if .Values.webConfig.existingSecret }}
- --web.config.file=/etc/azure-secure-score-exporter/{{ .Values.webConfig.key }}
{{- end }}
{{- range $flag, $value := .Values.flags }}
{{- range (kindIs "slice" $value | ternary $value (list $value)) }}
{{- if kindIs "bool" . }}
- {{ printf "--%s%s" (. | ternary "" "no-") $flag }}
{{- else if kindIs "float64" . }}
- {{ printf "--%s=%d" $flag (int64 .) | quote }}
{{- else }}
- {{ printf "--%s=%v" $flag . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Without AZURE_TOKEN_CREDENTIALS azidentity would try one kind of credential after the other. */}}
{{- define "exporter.env" -}}
{{- with .Values.credential }}
{{- if ne .kind "none" }}
- name: AZURE_TOKEN_CREDENTIALS
  value: {{ get (dict "workloadIdentity" "WorkloadIdentityCredential" "clientSecret" "EnvironmentCredential" "managedIdentity" "ManagedIdentityCredential") .kind }}
{{- end }}
{{- if and .clientId (has .kind (list "clientSecret" "managedIdentity")) }}
- name: AZURE_CLIENT_ID
  value: {{ .clientId | quote }}
{{- end }}
{{- if eq .kind "clientSecret" }}
- name: AZURE_TENANT_ID
  value: {{ .tenantId | quote }}
- name: AZURE_CLIENT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ include "exporter.secretName" $ }}
      key: {{ empty .existingSecret | ternary "clientSecret" .existingSecretKey }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}
