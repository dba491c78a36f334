"""The manifests and the image's recipe: what refers to something finds it, and the Corefiles are valid.

Whether they run is for tests/kernel/test_kubernetes_pod.py to see.
"""

import re
from pathlib import Path

import pytest
import yaml

from corepy import cli, corefile
from corepy.server.build.builder import build

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
MANIFESTS = {
    path.name: list(yaml.safe_load_all(path.read_text()))
    for path in FOLDER.glob("node-local*.yaml")
}


def of_kind(kind):
    return [
        pytest.param(name, it, id=f"{name}:{it['metadata']['name']}")
        for name, objects in sorted(MANIFESTS.items())
        for it in objects
        if it["kind"] == kind
    ]


def named(manifest, kind):
    return {it["metadata"]["name"]: it for it in MANIFESTS[manifest] if it["kind"] == kind}


def environment(container):
    return {it["name"]: it["value"] for it in container.get("env", ())}


def container_of(daemon):
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    return container


def test_every_object_is_of_a_kind_that_is_looked_at():
    kinds = {it["kind"] for objects in MANIFESTS.values() for it in objects}
    assert kinds == {"ServiceAccount", "ConfigMap", "DaemonSet"}
    assert {name: len(objects) for name, objects in MANIFESTS.items()} == {
        "node-local.yaml": 3,
        "node-local-ha.yaml": 5,
    }


@pytest.mark.parametrize(("manifest", "daemon"), of_kind("DaemonSet"))
def test_what_a_pod_refers_to_is_there(manifest, daemon):
    template = daemon["spec"]["template"]
    pod, container = template["spec"], container_of(daemon)
    assert (
        daemon["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    )
    assert pod["serviceAccountName"] in named(manifest, "ServiceAccount")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    assert volumes["config"]["configMap"]["name"] in named(manifest, "ConfigMap")


@pytest.mark.parametrize(("manifest", "daemon"), of_kind("DaemonSet"))
def test_the_command_line_is_taken(manifest, daemon):
    container = container_of(daemon)
    words = [
        re.sub(r"\$\((\w+)\)", lambda it: environment(container)[it[1]], word)
        for word in container["args"]
    ]
    flags = cli._parser().parse_args(words)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[str(Path(flags.conf).parent)] == "config"
    if flags.pidfile:
        assert mounts[str(Path(flags.pidfile).parent)] == "run"
        assert container["startupProbe"]["exec"]["command"][-1].count(flags.pidfile) == 2
    assert bool(flags.pidfile) == ("startupProbe" in container)


@pytest.mark.parametrize(("manifest", "daemon"), of_kind("DaemonSet"))
def test_the_corefile_is_valid_and_asks_for_no_more_than_the_pod_may(manifest, daemon, monkeypatch):
    container = container_of(daemon)
    for name, value in environment(container).items():
        monkeypatch.setenv(name, value)
    pod = daemon["spec"]["template"]["spec"]
    config = next(it["configMap"]["name"] for it in pod["volumes"] if it["name"] == "config")
    text = named(manifest, "ConfigMap")[config]["data"]["Corefile"]
    build(corefile.parse(text))
    uses_nodecache = "nodecache" in re.findall(r"^ *(\w+)", text, re.MULTILINE)
    security = container["securityContext"]
    assert not security.get("privileged")
    assert security["capabilities"]["drop"] == ["ALL"]
    host = ["NET_ADMIN", "NET_RAW"] if uses_nodecache else []
    assert security["capabilities"]["add"] == ["NET_BIND_SERVICE", *host]
    assert ("xtables-lock" in {volume["name"] for volume in pod["volumes"]}) == uses_nodecache
    assert pod["hostNetwork"]
    assert pod["dnsPolicy"] == "Default"
    if "livenessProbe" in container:
        probe = container["livenessProbe"]["httpGet"]
        assert probe["path"] == "/health"
        assert f"health {probe['host']}:{probe['port']}" in text
    probe = container["readinessProbe"]["httpGet"]
    assert probe["path"] == "/ready"
    for name, value in environment(container).items():
        text = text.replace(f"{{${name}}}", value)
    assert f"ready {probe['host']}:{probe['port']} {{" in text


def test_two_pods_fit_on_a_node_where_they_have_to():
    (daemon,) = named("node-local.yaml", "DaemonSet").values()
    rolling = daemon["spec"]["updateStrategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": "10%", "maxUnavailable": 0}
    assert "ports" not in container_of(daemon)


def test_the_two_caches_of_a_node_differ_in_what_they_have_to():
    texts = [it["data"]["Corefile"] for it in named("node-local-ha.yaml", "ConfigMap").values()]
    primary = texts[0].replace("    nodecache skipteardown\n", "")
    assert primary != texts[0]
    ports = {":9253": ":9254", ":8080": ":8082", ":8181": ":8182"}
    assert re.sub(":[89][0-9]{3}", lambda it: ports[it[0]], primary) == texts[1]


def test_the_recipe_copies_what_the_package_is_built_of():
    recipe = (FOLDER / "Dockerfile").read_text()
    kept = re.findall(r"^!(\S+)", (FOLDER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    locks = {f"deploy/kubernetes/{name}.lock" for name in ("build", "requirements")}
    sources = {"pyproject.toml", "README.md", "LICENSE", "corepy", "plugins", "tools", "docs"}
    assert sources | locks == set(kept)
    instructions = re.findall(r"^([A-Z]+) ", recipe, re.MULTILINE)
    assert instructions[:2] == ["ARG", "FROM"]
    assert instructions[-2:] == ["ENTRYPOINT", "CMD"]
    words = re.findall(r'^CMD \["(.*)"\]', recipe, re.MULTILINE)[0].split('", "')
    assert cli._parser().parse_args(words).conf == "/etc/coredns/Corefile"
