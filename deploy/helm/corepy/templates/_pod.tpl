{{/* The pod's template of one DaemonSet. */}}
{{- define "corepy.template" -}}
{{- include "corepy.pod" (merge (dict "readyAddress" (include "corepy.readyAddress" .)) .) }}
{{- end }}

{{- define "corepy.pod" -}}
{{- $root := .root }}
{{- $it := .daemon }}
{{- $host := include "corepy.hostNetwork" $root }}
{{- $ha := eq (include "corepy.form" $root) "ha" }}
{{- $supervised := eq (include "corepy.form" $root) "supervised" }}
{{- $probed := "" }}
{{- if $supervised }}{{ $probed = .readyAddress }}{{ else if $host }}{{ $probed = first $root.Values.addresses }}{{ end -}}
metadata:
  labels:
    k8s-app: {{ $root.Release.Name | quote }}
    {{- with $it.component }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
  annotations:
    {{- $own := dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString $it.metrics) }}
    {{- toYaml (merge (dict) $root.Values.podAnnotations $own) | nindent 4 }}
spec:
  priorityClassName: {{ $root.Values.priorityClassName | quote }}
  serviceAccountName: {{ $it.name | quote }}
  # Sets KUBE_DNS_UPSTREAM_SERVICE_HOST, if the Service exists before the container starts.
  enableServiceLinks: {{ eq (include "corepy.upstreamService" $root) "true" }}
  {{- if $host }}
  hostNetwork: true
  {{- else }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65534
    runAsGroup: 65534
  {{- end }}
  dnsPolicy: Default    # /etc/resolv.conf is the node's
  terminationGracePeriodSeconds: 30
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 2 }}
  {{- end }}
  containers:
  - name: corepy
    image: {{ include "corepy.image" $root | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    env:
    - name: CLUSTER_DNS
      {{- if include "corepy.upstreamService" $root }}
      value: $(KUBE_DNS_UPSTREAM_SERVICE_HOST)
      {{- else }}
      value: {{ $root.Values.clusterDNS | quote }}
      {{- end }}
    {{- if $supervised }}
    - name: READY_ADDRESS
      value: {{ .readyAddress }}
    {{- end }}
    args:
    - -conf
    - /etc/coredns/Corefile
    {{- if not $ha }}
    - -pidfile
    - /run/corepy/corepy.pid
    - -supervise
    - -fallback
    - $(CLUSTER_DNS)
    {{- end }}
    {{- if not $host }}
    # Cilium finds the ports by these names. Pods of the host network must declare none: the scheduler would
    # consider them in use and never start the pod that is to replace another.
    ports:
    - name: dns
      containerPort: 1053
      protocol: UDP
    - name: dns-tcp
      containerPort: 1053
      protocol: TCP
    - name: metrics
      containerPort: 9253
      protocol: TCP
    {{- end }}
    resources:
      {{- toYaml $root.Values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      seccompProfile:
        type: RuntimeDefault
      capabilities:
        drop: [ALL]
        {{- if $it.nodecache }}
        # NET_BIND_SERVICE: port 53. NET_ADMIN: the interface, its addresses, the rules. NET_RAW: legacy iptables.
        add: [NET_BIND_SERVICE, NET_ADMIN, NET_RAW]
        {{- else if $host }}
        add: [NET_BIND_SERVICE]
        {{- end }}
    {{- if $supervised }}
    # During an update two pods of a node run. The command looks at its own pod: its worker runs, and has served for 10
    # seconds. kubelet repeats it until it has succeeded once, and the old pod stays until then.
    startupProbe:
      exec:
        command:
        - sh
        - -c
        - kill -0 "$(cat /run/corepy/corepy.pid)" && find /run/corepy/corepy.pid -mmin +0.16 | grep -q .
      periodSeconds: 1
      failureThreshold: 600
    {{- end }}
    # kubelet itself sends these requests; they start no process.
    readinessProbe:
      {{- include "corepy.httpGet" (dict "host" $probed "path" "/ready" "port" $it.ready) | nindent 6 }}
      periodSeconds: 2
    {{- if $ha }}
    # The other forms have none: their supervisor watches the worker, and relays while none can be started.
    livenessProbe:
      {{- include "corepy.httpGet" (dict "host" $probed "path" "/health" "port" $it.health) | nindent 6 }}
      initialDelaySeconds: 10
      timeoutSeconds: 5
    {{- end }}
    volumeMounts:
    - name: config
      mountPath: /etc/coredns
      readOnly: true
    - name: run
      mountPath: /run/corepy
    {{- if $it.nodecache }}
    - name: xtables-lock
      mountPath: /run/xtables.lock
    {{- end }}
  volumes:
  - name: config
    configMap:
      name: {{ $it.name | quote }}
  - name: run
    emptyDir:
      medium: Memory
  {{- if $it.nodecache }}
  - name: xtables-lock
    hostPath:
      path: /run/xtables.lock
      type: FileOrCreate
  {{- end }}
{{- end }}
