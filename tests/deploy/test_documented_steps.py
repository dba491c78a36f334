"""The steps of the pages about Kubernetes, as far as they can be run without a cluster.

bash reads the commands of the pages, as an administrator's shell does. What they would run is then
examined: Helm renders the chart with the values of each `helm` command, kubectl parses the flags of
its own, and the objects that they name are looked for in what is rendered. SECTIONS lists the tests
that run the steps of each section on a node.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart

ROOT = Path(__file__).parent.parent.parent
KUBECTL = Path(sys.executable).parent / "kubectl"
CHART, RELEASE = "deploy/helm/corepy", "corepy-nodecache"
CLUSTER_RELEASE = "corepy-dns"
"""The release with the mode cluster."""

PAGES = [
    *("docs/kubernetes.md", "docs/kubernetes-networks.md", "docs/kubernetes-upgrade.md"),
    *("docs/kubernetes-cluster-dns.md", "docs/runbooks.md", "deploy/helm/corepy/README.md"),
]
NETWORKS = "tests/kernel/test_kubernetes_networks.py"
POD = "tests/kernel/test_kubernetes_pod.py"
FORMS = "tests/deploy/test_deployment_forms.py"
UML = "plugins/nodecache/tests/kernel/test_nodecache_uml.py"
SECTIONS = {
    "docs/kubernetes-networks.md": {
        "iptables": (
            (NETWORKS, "test_taking_over_the_address_of_kube_dns"),
            (NETWORKS, "test_the_link_local_address_beside_kube_proxy"),
        ),
        "nftables": (
            (NETWORKS, "test_taking_over_the_address_of_kube_dns"),
            (NETWORKS, "test_the_link_local_address_beside_kube_proxy"),
        ),
        "IPVS": ((UML, "test_kube_proxy_with_ipvs"),),
        "None": ((POD, "test_a_pod_without_privileges"),),
        "Cilium": (
            (POD, "test_a_pod_without_privileges"),
            (FORMS, "test_custom_resources_fit_the_schemas_of_their_operators"),
        ),
        "Calico, policies and firewalls": (
            (NETWORKS, "test_a_policy_of_calico_that_denies_by_default"),
            (NETWORKS, "test_a_firewall_that_accepts_replies_to_known_connections"),
        ),
        "Dual stack": (
            (NETWORKS, "test_both_address_families"),
            (FORMS, "test_both_address_families"),
        ),
    },
    "docs/kubernetes-upgrade.md": {
        "From node-cache, by its image": (
            (
                "plugins/nodecache/tests/kernel/test_nodecache_command_host.py",
                "test_the_official_arguments",
            ),
        ),
        "From node-cache, beside it": (
            (POD, "test_a_pod_takes_over_from_a_cache_with_another_interface"),
        ),
        "From coredns-nodecache": (
            (NETWORKS, "test_coredns_nodecache_is_replaced_one_daemon_after_the_other"),
            (
                "tests/kernel/test_ha_deployment.py",
                "test_one_after_the_other_is_replaced_under_load",
            ),
        ),
    },
    "docs/failures.md": {
        "Memory limits": (
            (UML, "test_the_next_container_adopts_the_node_when_the_limit_kills_all"),
            (UML, "test_the_supervisor_survives_when_the_limit_kills_one_process"),
        ),
    },
}
WITHOUT_STEPS = {"kube-proxy", "What is tested"}
MANAGED = "app.kubernetes.io/managed-by=Helm"
THEIRS = {
    *("daemonset/node-local-dns", "configmap/node-local-dns"),
    *("configmap/coredns", "daemonset/cilium"),
}
"""Objects of CoreDNS, of node-cache and of Cilium."""

RECORDER = """\
command_not_found_handle() { :; }
record() { printf '%s\\0' "$@" >> "$RECORD"; printf '\\n\\0' >> "$RECORD"; echo node/1; }
for name in helm kubectl docker corepy conntrack sysctl dig fuser; do eval "$name() { record $name \\"\\$@\\"; }"; done
"""
SHELL = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@cache
def commands(page):
    """The commands of a page, as bash reads them; nothing else is run."""
    text = (ROOT / page).read_text()
    blocks = [
        re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in SHELL.findall(text)
    ]
    read, write = os.pipe()
    with os.fdopen(read, "rb") as recorded, tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["/bin/bash", "-u", "-c", "\n".join([RECORDER, *blocks])],
            env={"PATH": "/nonexistent", "RECORD": f"/dev/fd/{write}"},
            pass_fds=[write],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        os.close(write)
        said = recorded.read().decode()
    assert done.stderr == ""
    return [line.split("\0")[:-1] for line in said.split("\n\0")[:-1]]


def all_of(program):
    """The distinct commands of a program on all pages, without its name."""
    found = (command for page in PAGES for command in commands(page) if command[0] == program)
    return [list(words) for words in dict.fromkeys(tuple(command[1:]) for command in found)]


@pytest.mark.parametrize("page", SECTIONS)
def test_each_section_has_tests_that_run_its_steps(page):
    headings = re.findall(r"^##+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    if page != "docs/failures.md":
        assert {*headings} == SECTIONS[page].keys() | WITHOUT_STEPS & {*headings}
    for heading, tests in SECTIONS[page].items():
        assert heading in headings
        for file, name in tests:
            assert f"def {name}(" in (ROOT / file).read_text(), (heading, name)


def value_of(text):
    """The value that `helm --set` reads: digits alone are a number, which a tag must not be."""
    if text.startswith("{"):
        return text[1:-1].split(",")
    if re.fullmatch(r"true|false|null|0|-?[1-9]\d*", text):
        return json.loads(text)
    return text.replace("...", "0" * 64)


def values_of(words):
    """The values of all --set and --set-string flags of a command."""
    found: dict[str, Any] = {}
    for flag, setting in itertools.pairwise(words):
        if flag in ("--set", "--set-string"):
            path, _, text = setting.partition("=")
            *groups, name = path.split(".")
            at = found
            for group in groups:
                at = at.setdefault(group, {})
            at[name] = value_of(text) if flag == "--set" else text
    return found


@cache
def rendered(values, release=RELEASE):
    """The objects of the chart, by kind and name, with values as JSON."""
    chart = Chart.load(ROOT / CHART)
    texts = chart.render(values=json.loads(values), name=release, namespace="kube-system")
    text = "\n---\n".join(text for name, text in texts.items() if "NOTES" not in name)
    return {f"{it['kind']}/{it['metadata']['name']}": it for it in yaml.safe_load_all(text) if it}


def test_helm_renders_the_chart_with_the_values_of_each_command():
    seen = set()
    for verb, release, chart, *words in all_of("helm"):
        seen.add(verb)
        assert verb in ("install", "upgrade", "template")
        assert chart == CHART
        flags = [word for word in words if word.startswith("--")]
        assert {*flags} <= {"--namespace", "--set", "--set-string"}
        # A shell that expanded braces would leave words that belong to no flag.
        assert len(words) == 2 * len(flags), words
        values = values_of(words)
        is_cluster = values.get("mode") == "cluster"
        assert release == (CLUSTER_RELEASE if is_cluster else RELEASE)
        kind = "Deployment/" if is_cluster else "DaemonSet/"
        assert any(key.startswith(kind) for key in rendered(json.dumps(values), release))
    assert seen == {"install", "upgrade", "template"}


def manifests():
    """All objects that the repository deploys, as "daemonset/NAME"."""
    found: list[dict[str, Any]] = []
    for form in ("supervised", "ha", "unprivileged", "cilium"):
        found += rendered(json.dumps({"form": form})).values()
    found += rendered('{"mode": "cluster"}', CLUSTER_RELEASE).values()
    for path in (ROOT / "deploy/kubernetes").glob("node-local*.yaml"):
        found += yaml.safe_load_all(path.read_text())
    return {f"{it['kind'].lower()}/{it['metadata']['name']}": it for it in found}


def named(words):
    """The objects that a kubectl command names, as "daemonset/NAME"."""
    text = " ".join(words[: words.index("--")] if "--" in words else words)
    for kind, name in re.findall(r"\b(ds|daemonset|configmap|service)[/ ]([a-z][\w.-]*)", text):
        yield f"{'daemonset' if kind == 'ds' else kind}/{name}"


def test_kubectl_commands_name_objects_that_exist():
    ours, seen = manifests(), set()
    labels = {
        f"{name}={value}"
        for it in ours.values()
        for name, value in it["metadata"].get("labels", {}).items()
    }
    for words in all_of("kubectl"):
        seen |= {*named(words)}
        for flag, argument in itertools.pairwise(words):
            if flag == "-l":
                assert argument in labels
            elif flag == "-f":
                assert (ROOT / argument).is_file()
        if words[2:4] == ["set", "image"] and words[4] != "deployment/coredns":
            (container,) = ours[words[4]]["spec"]["template"]["spec"]["containers"]
            assert words[5].partition("=")[0] == container["name"]
    assert seen - ours.keys() == THEIRS
    assert len(seen & ours.keys()) >= 3


def test_kubectl_knows_the_flags():
    checked = 0
    for words in all_of("kubectl"):
        end = words.index("--") if "--" in words else len(words)
        command = [str(KUBECTL), *words[:end], "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert f"kubectl {next(it for it in words if it in VERBS)}" in done.stdout, command
        checked += 1
    assert checked > 10


VERBS = (
    "annotate",
    "apply",
    "delete",
    "diff",
    "exec",
    "get",
    "label",
    "logs",
    "rollout",
    "scale",
    "set",
    "describe",
)


def test_helm_may_adopt_the_service_of_node_cache():
    """Its manifest has kube-dns-upstream; Helm takes over an object with these three entries."""
    run = commands("docs/kubernetes-upgrade.md")
    before = run[: next(i for i, words in enumerate(run) if words[:2] == ["helm", "install"])]
    (namespace,) = {words[words.index("--namespace") + 1] for words in run if words[0] == "helm"}
    service = ["kubectl", "-n", namespace]
    assert [*service, "label", "service/kube-dns-upstream", MANAGED] in before
    owner = [f"meta.helm.sh/release-name={RELEASE}", f"meta.helm.sh/release-namespace={namespace}"]
    assert [*service, "annotate", "service/kube-dns-upstream", *owner] in before


def test_the_check_of_the_corefile_before_the_change(tmp_path):
    """docs/kubernetes-upgrade.md: `helm template ... > after.yaml` and `corepy -check` of it."""
    (template,) = [words for words in all_of("helm") if words[0] == "template"]
    found = rendered(json.dumps(values_of(template)))
    (tmp_path / "after.yaml").write_text("---\n".join(map(yaml.safe_dump, found.values())))
    (check,) = [words for words in all_of("corepy") if "after.yaml" in words]
    page = (ROOT / "docs/kubernetes-upgrade.md").read_text()
    (upstream,) = re.findall(r"^ *CLUSTER_DNS=(\S+) corepy -check", page, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "corepy", *check],
        env={**os.environ, "CLUSTER_DNS": upstream},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
