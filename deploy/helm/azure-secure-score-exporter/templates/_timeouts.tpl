{{/* Seconds of a duration such as 1m30s or 0.5s. */}}
{{- define "exporter.seconds" -}}
{{- $units := dict "h" 3600 "m" 60 "s" 1 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "ns" 0.000000001 -}}
{{- $seconds := 0.0 -}}
{{- range regexFindAll "[0-9.]+[a-zµ]+" (toString .) -1 -}}
{{- $unit := regexFind "[a-zµ]+$" . -}}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (get $units $unit | default 0)) -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{/*
The --scrape.timeout that serviceMonitor.scrapeTimeout requires, if the exporter's default of 60s is
too short. The exporter responds by its own timeout even if Prometheus would wait longer.
*/}}
{{- define "exporter.raisedScrapeTimeout" -}}
{{- with .Values.serviceMonitor -}}
{{- if and .enabled (not (hasKey $.Values.flags "scrape.timeout")) (gt (include "exporter.seconds" .scrapeTimeout | float64) 60.0) -}}
{{- .scrapeTimeout -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Seconds until helm test gives up: 10 more than a scrape can take. */}}
{{- define "exporter.testTimeout" -}}
{{- $timeout := get .Values.flags "scrape.timeout" | default (include "exporter.raisedScrapeTimeout" .) | default "60s" -}}
{{- include "exporter.seconds" $timeout | float64 | ceil | int64 | add 10 -}}
{{- end -}}

{{/* Fails if interval, scrapeTimeout and --scrape.timeout contradict each other. */}}
{{- define "exporter.checkTimeouts" -}}
{{- with .Values.serviceMonitor -}}
{{- $timeout := include "exporter.seconds" .scrapeTimeout | float64 -}}
{{- if lt (include "exporter.seconds" .interval | float64) $timeout -}}
{{- fail (printf "serviceMonitor.scrapeTimeout (%s) must not be longer than serviceMonitor.interval (%s)" .scrapeTimeout .interval) -}}
{{- end -}}
{{- with get $.Values.flags "scrape.timeout" -}}
{{- if lt (include "exporter.seconds" . | float64) $timeout -}}
{{- fail (printf "serviceMonitor.scrapeTimeout (%s) must not be longer than flags.scrape.timeout (%v)" $.Values.serviceMonitor.scrapeTimeout .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
