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

{{- define "exporter.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "exporter.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "exporter.secretName" -}}
{{- .Values.credential.existingSecret | default (printf "%s-credential" (include "exporter.fullname" . | trunc 52 | trimSuffix "-")) -}}
{{- end -}}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The test pod has its own name label, so that the Service does not select it. */}}
{{- define "exporter.testLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . | trunc 58 | trimSuffix "-" }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "exporter.labels" -}}
{{ include "exporter.labelsWith" (list . dict) }}
{{- end -}}

{{/* Labels of an object. Its own labels take precedence over commonLabels. */}}
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

{{/* Annotations of an object, if there are any. Its own take precedence over commonAnnotations. */}}
{{- define "exporter.annotations" -}}
{{- $own := index . 1 | default dict -}}
{{- with merge (deepCopy $own) ((index . 0).Values.commonAnnotations | default dict) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
