{{- define "labels" -}}
app.kubernetes.io/name: bento-trtllm
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "labels" . | nindent 2 }}
{{- end }}

{{- /* What a setting is worth: the chart's value, or the service's own default, which a test compares. */ -}}
{{- define "drain_timeout_s" }}{{ dig "drain_timeout_s" 20 .Values.settings }}{{ end }}
{{- define "stop_timeout_s" }}{{ dig "stop_timeout_s" 10 .Values.settings }}{{ end }}
{{- define "startup_timeout_s" }}{{ dig "startup_timeout_s" 600 .Values.settings }}{{ end }}
