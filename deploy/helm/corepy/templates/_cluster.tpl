{{/* The labels of the objects of the cluster's DNS. */}}
{{- define "corepy.clusterLabels" -}}
k8s-app: kube-dns
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "corepy.clusterCorefile" -}}
.:53 {
    errors
    health :8080 {
        lameduck 5s
    }
    ready :8181
    kubernetes {{ .Values.clusterDomain }} in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
        keep /var/lib/corepy/kubernetes
    }
    prometheus :9153
    forward . {{ .Values.resolvers }} {
        max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
{{- end }}
