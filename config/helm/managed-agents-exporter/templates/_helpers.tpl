{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "exporter.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "exporter.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "exporter.labels" -}}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: managed-agents
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Metadata of an object that may be in another namespace, with labels of its own. Takes root, part, name. */}}
{{- define "exporter.metadata" -}}
name: {{ .name }}
namespace: {{ default (include "exporter.namespace" .root) .part.namespace }}
labels:
  {{- include "exporter.labels" .root | nindent 2 }}
  {{- with .part.additionalLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "exporter.image" -}}
{{- with .Values.image }}
{{- $registry := default .registry $.Values.global.imageRegistry }}
{{- $name := ternary (printf "%s/%s" $registry .repository) .repository (ne $registry "") }}
{{- if .digest }}
{{- printf "%s@%s" $name .digest }}
{{- else }}
{{- printf "%s:%s" $name (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "exporter.configMapName" -}}
{{- default (include "exporter.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{- define "exporter.webSecretName" -}}
{{- default (printf "%s-web" (include "exporter.fullname" .)) .Values.web.existingSecret }}
{{- end }}

{{- define "exporter.hasWebConfig" -}}
{{- if or .Values.web.config .Values.web.existingSecret }}true{{ end }}
{{- end }}

{{- define "exporter.scheme" -}}
{{- if or .Values.web.tls (hasKey .Values.web.config "tls_server_config") }}https{{ else }}http{{ end }}
{{- end }}

{{- /* True where who asks needs a password or a certificate, which the kubelet has not. */}}
{{- define "exporter.asksForCredentials" -}}
{{- $tls := default dict (get .Values.web.config "tls_server_config") }}
{{- if or .Values.web.auth .Values.web.config.basic_auth_users (eq (get $tls "client_auth_type") "RequireAndVerifyClientCert") }}true{{ end }}
{{- end }}

{{- define "exporter.address" -}}
{{- default (printf "%s.%s.svc:%v" (include "exporter.fullname" .root) (include "exporter.namespace" .root) .root.Values.service.port) .part.address }}
{{- end }}

{{- /* What every path of the exporter begins with: nothing, or a path without a slash at the end. */}}
{{- define "exporter.routePrefix" -}}
{{- default (urlParse .Values.web.externalUrl).path .Values.web.routePrefix | trimSuffix "/" }}
{{- end }}

{{- /* Put the addresses of `links` into a rule file or a dashboard. Takes root, text. */}}
{{- define "exporter.linked" -}}
{{- $links := .root.Values.links }}
{{- $exporter := default $links.exporter .root.Values.web.externalUrl | trimSuffix "/" }}
{{- .text | replace "<<grafanaUrl>>" $links.grafana | replace "<<exporterUrl>>" $exporter | replace "<<runbooksUrl>>" $links.runbooks }}
{{- end }}

{{- /* A probe with its times, and with the handler that suits TLS and authentication. Takes root, probe, path. */}}
{{- define "exporter.probe" -}}
{{- if not (or .probe.httpGet .probe.exec .probe.tcpSocket .probe.grpc) }}
{{- if include "exporter.asksForCredentials" .root }}
tcpSocket:
  port: http
{{- else }}
httpGet:
  path: {{ include "exporter.routePrefix" .root }}{{ .path }}
  port: http
  {{- if eq (include "exporter.scheme" .root) "https" }}
  scheme: HTTPS
  {{- end }}
{{- end }}
{{- end }}
{{ toYaml .probe }}
{{- end }}

{{- /* How Prometheus proves who it is. Takes tlsConfig, basicAuth. */}}
{{- define "exporter.access" -}}
{{- with .tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
