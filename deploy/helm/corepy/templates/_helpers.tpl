{{/* The form of the cache on nodes; "cluster" for the cluster's DNS, which has none. */}}
{{- define "corepy.form" -}}
{{- if eq .Values.mode "node-local" }}{{ .Values.form }}{{ else }}{{ .Values.mode }}{{ end -}}
{{- end }}

{{/* The DaemonSets of the form, each with the ports and the line of nodecache in which they differ. */}}
{{- define "corepy.daemons" -}}
{{- if eq .Values.mode "cluster" -}}
[]
{{- else if eq (include "corepy.form" .) "ha" -}}
- name: "{{ .Release.Name }}-primary"
  component: primary
  metrics: 9253
  health: 8080
  ready: 8181
  nodecache: nodecache skipteardown
- name: "{{ .Release.Name }}-secondary"
  component: secondary
  metrics: 9254
  health: 8082
  ready: 8182
{{- else -}}
- name: {{ .Release.Name | quote }}
  metrics: 9253
  health: 8080
  ready: 8181
  {{- if eq (include "corepy.form" .) "supervised" }}
  nodecache: nodecache
  {{- end }}
{{- end }}
{{- end }}

{{/* Whether the pods use the network of the node; "" if they have addresses of their own. */}}
{{- define "corepy.hostNetwork" -}}
{{- if has (include "corepy.form" .) (list "supervised" "ha") }}true{{ end -}}
{{- end }}

{{/* Whether the cache forwards to the Service kube-dns-upstream, because kube-dns leads to the cache itself. */}}
{{- define "corepy.upstreamService" -}}
{{- if or (eq (include "corepy.form" .) "cilium") .Values.takeoverAddresses }}true{{ end -}}
{{- end }}

{{/* The labels that select the pods of this release, and no others. */}}
{{- define "corepy.selector" -}}
{{ ternary "app.kubernetes.io/instance" "k8s-app" (eq .Values.mode "cluster") }}: {{ .Release.Name | quote }}
{{- end }}

{{- define "corepy.resources" -}}
{{- toYaml (ternary .Values.cluster.resources .Values.resources (eq .Values.mode "cluster")) }}
{{- end }}

{{- define "corepy.labels" -}}
k8s-app: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The labels of an object for which the values have some: those may replace the labels of the chart. */}}
{{- define "corepy.labelsWith" -}}
{{- toYaml (merge (dict) .labels (include "corepy.labels" .root | fromYaml)) }}
{{- end }}

{{- define "corepy.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* The host of a "host:port" in the Corefile: the first address, nothing for all. */}}
{{- define "corepy.host" -}}
{{- if include "corepy.hostNetwork" . -}}
{{- $first := first .Values.addresses -}}
{{ if contains ":" $first }}[{{ $first }}]{{ else }}{{ $first }}{{ end }}
{{- end }}
{{- end }}

{{/* The lines that begin each server block. */}}
{{- define "corepy.bind" -}}
{{- if include "corepy.hostNetwork" .root }}
    bind {{ join " " (concat .root.Values.addresses .root.Values.takeoverAddresses) }}
{{- end }}
{{- with .daemon.nodecache }}
    {{ . }}
{{- end }}
{{- end }}

{{- define "corepy.corefile" -}}
{{- $port := ternary 53 1053 (eq (include "corepy.hostNetwork" .root) "true") -}}
{{- $host := include "corepy.host" .root -}}
{{ .root.Values.clusterDomain }}:{{ $port }} in-addr.arpa:{{ $port }} ip6.arpa:{{ $port }} {
{{- include "corepy.bind" . }}
    errors
    cache {
        success 9984 30
        denial 9984 5
    }
    loop
    reload
    forward . {$CLUSTER_DNS} {
        force_tcp
    }
    prometheus :{{ .daemon.metrics }}
    health {{ $host }}:{{ .daemon.health }} {
        lameduck 5s
    }
    ready {{ if eq (include "corepy.form" .root) "supervised" }}{$READY_ADDRESS}{{ else }}{{ $host }}{{ end }}:{{ .daemon.ready }} {
        monitor continuously
    }
}
.:{{ $port }} {
{{- include "corepy.bind" . }}
    errors
    cache 30 {
        serve_stale 1h verify 1s
    }
    loop
    reload
    forward . {{ .root.Values.resolvers }}
    prometheus :{{ .daemon.metrics }}
}
{{- end }}

{{/* kubelet's HTTP probe of a path and port, at `host` if there is one. */}}
{{- define "corepy.httpGet" -}}
httpGet:
  {{- with .host }}
  host: {{ . | quote }}
  {{- end }}
  path: {{ .path }}
  port: {{ .port }}
{{- end }}

{{/*
The loopback address for /ready. During an update two pods of a node run at the same time, and kubelet must ask each of them,
so the address depends on everything else in the pod's template.
*/}}
{{- define "corepy.readyAddress" -}}
{{- $sum := include "corepy.pod" (merge (dict "readyAddress" "127.0.0.1") .) | adler32sum | int64 -}}
{{ printf "127.%d.%d.%d" (add 1 (mod (div $sum 62500) 250)) (mod (div $sum 250) 250) (add 1 (mod $sum 250)) }}
{{- end }}

{{/*
The alerts of deploy/prometheus, with the address of the runbooks, the release's jobs and its memory limit. The limit stays
128Mi if `resources` has none, or one with a suffix that is unusual for memory, such as m or Ti.
*/}}
{{- define "corepy.rules" -}}
{{- $rules := .Files.Get "files/corepy.rules.yaml" }}
{{- $rules = replace "runbook_url: docs/runbooks.md#" (printf "runbook_url: %s#" .Values.prometheusRule.runbookURL) $rules }}
{{- if not (contains "corepy" .Release.Name) }}
{{- $rules = replace ".*corepy.*" (printf ".*%s.*" .Release.Name) $rules }}
{{- end }}
{{- $limit := toString (dig "limits" "memory" "" (include "corepy.resources" . | fromYaml)) }}
{{- if regexMatch "^[0-9]+([.][0-9]+)?(e[+]?[0-9]+|[kMG]|[KMG]i)?$" $limit }}
{{- $suffix := regexFind "[A-Za-z]*$" $limit }}
{{- $base := ternary " * 1024" " * 1000" (hasSuffix "i" $suffix) }}
{{- $power := get (dict "" 0 "k" 1 "K" 1 "M" 2 "G" 3) (trimSuffix "i" $suffix) | int }}
{{- $rules = replace "128 * 1024 * 1024" (print (trimSuffix $suffix $limit) (repeat $power $base)) $rules }}
{{- end }}
{{- $rules }}
{{- end }}
