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

{{- /* Those that a pod may be given, which a test compares with the service's; a variable of another name has no effect. */ -}}
{{- define "settings" }}
max_running_requests max_waiting_requests first_token_timeout_s ping_interval_s between_tokens_timeout_s
request_timeout_s write_timeout_s head_timeout_s body_timeout_s max_connections max_connections_per_address
drain_timeout_s max_body_bytes open_metrics keys_file audit_log audit_log_max_bytes audit_log_files unknown_fields
tool_format allowed_hosts allowed_origins trace_endpoint trace_sample_rate grpc_port grpc_address startup_timeout_s
stop_timeout_s health_interval_s load_stall_limit_s stall_limit_s step_limit_s engine_errors_before_restart
restart_first_delay_s restart_max_delay_s restart_failures_before_failed triton_log_verbose
max_tokens_in_paged_kv_cache max_num_tokens max_num_sequences enable_chunked_context enable_kv_cache_reuse
prompt_lookup threads exact inference_precision kv_cache_precision dynamic_quantization_group_size
cancellation_check_period_ms response_pace_ms kv_cache_free_gpu_mem_fraction batch_scheduler_policy model models
workers
{{- end }}

{{- define "check_settings" }}
{{- $known := splitList " " (include "settings" . | replace "\n" " ") }}
{{- range $name, $_ := .Values.settings }}
{{- if has $name (list "admin_key" "api_keys" "api_keys_file" "grpc_key") }}
{{- fail (printf "settings.%s: keys come from a secret only, whose name is keysSecret, as TRTLLM_API_KEYS, TRTLLM_ADMIN_KEY or TRTLLM_GRPC_KEY" $name) }}
{{- else if not (has $name $known) }}
{{- fail (printf "settings.%s is no setting of the service: bento_trtllm/config.py has them all" $name) }}
{{- end }}
{{- end }}
{{- if and .Values.keysFileSecret (hasKey .Values.settings "keys_file") }}
{{- fail "settings.keys_file and keysFileSecret both say where the named keys are: leave one of them out" }}
{{- end }}
{{- end }}
