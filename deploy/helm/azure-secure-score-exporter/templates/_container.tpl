{{- define "exporter.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "exporter.scheme" -}}
{{- if and .Values.webConfig.existingSecret .Values.webConfig.tls -}}https{{- else -}}http{{- end -}}
{{- end -}}

{{/* Helm parses every number as a float; int64 keeps 1000000 from becoming 1e+06. */}}
{{- define "exporter.args" -}}
{{- if .Values.webConfig.existingSecret }}
- --web.config.file=/etc/azure-secure-score-exporter/{{ .Values.webConfig.key }}
{{- end }}
{{- with include "exporter.raisedScrapeTimeout" . }}
- --scrape.timeout={{ . }}
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

{{/* Without AZURE_TOKEN_CREDENTIALS, azidentity tries every type of credential in turn. */}}
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
{{- with include "exporter.memoryLimit" . }}
- name: GOMEMLIMIT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
90 % of the container's memory limit in bytes, the rest being headroom for what the Go runtime does
not account for. Empty without a limit, or if env sets GOMEMLIMIT.
*/}}
{{- define "exporter.memoryLimit" -}}
{{- $custom := false -}}
{{- range .Values.env }}{{ if eq .name "GOMEMLIMIT" }}{{ $custom = true }}{{ end }}{{ end -}}
{{- $limit := get ((.Values.resources | default dict).limits | default dict) "memory" -}}
{{- if and $limit (not $custom) -}}
{{- $quantity := kindIs "string" $limit | ternary $limit (printf "%.0f" (float64 $limit)) -}}
{{- $unit := regexFind "([KMGT]i|[kMGT])$" $quantity -}}
{{- $number := trimSuffix $unit $quantity -}}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?([eE][0-9]+)?$" $number) -}}
{{- fail (printf "resources.limits.memory: %q is not a quantity in bytes, Ki, Mi, Gi, Ti, k, M, G or T" $quantity) -}}
{{- end -}}
{{- $bytes := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- mulf (float64 $number) (get $bytes $unit) 0.9 | floor | int64 -}}
{{- end -}}
{{- end -}}

{{/* A probe of PATH. Neither path calls Azure, so a failing Azure never restarts a pod. */}}
{{- define "exporter.probe" -}}
{{- $root := index . 0 -}}
{{- $probe := deepCopy (index . 2 | default dict) -}}
{{- if not (or $probe.httpGet $probe.tcpSocket $probe.exec $probe.grpc) -}}
{{- if and $root.Values.webConfig.existingSecret $root.Values.webConfig.auth -}}
{{- $_ := set $probe "tcpSocket" (dict "port" "metrics") -}}
{{- else -}}
{{- $_ := set $probe "httpGet" (dict "path" (index . 1) "port" "metrics" "scheme" (include "exporter.scheme" $root | upper)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}
