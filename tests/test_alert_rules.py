"""The alerts: promtool's opinion, their unit tests, their runbooks, and the metrics that they name."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from corepy.plugin import Handler, metrics
from corepy.testing import Upstream, free_port, http_get, serve, with_handlers
from corepy.testing.netns import isolated, run

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy/prometheus"
RULES, TESTS = FOLDER / "corepy.rules.yaml", FOLDER / "corepy.rules.test.yaml"
RUNBOOKS = ROOT / "docs/runbooks.md"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
NAMES = [rule["alert"] for rule in ALERTS]
METRIC = re.compile(r"\b((?:coredns|corepy|process|python)_\w+|up\b)")
OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus adds."""

AFTER_AN_EVENT = {
    "corepy_event_loop_blocked_seconds_total",
    "corepy_polled_zone_last_success_timestamp_seconds",
}
"""Metrics that a server exports from the first event on."""

COREFILE = """\
example.org {{
    bind 169.254.20.10
    nodecache {{
        iptables off
    }}
    prometheus 127.0.0.1:{metrics}
    health 127.0.0.1:{health}
    loop
    reload
    errors
    cache 30 {{
        serve_stale 1h
    }}
    forward . {to}
}}
broken.org {{
    bind 169.254.20.10
    prometheus 127.0.0.1:{metrics}
    broken
}}
route53.example {{
    bind 169.254.20.10
    route53 route53.example:Z1 {{
        aws_endpoint http://127.0.0.1:1
    }}
}}
etcd.example {{
    bind 169.254.20.10
    etcd {{
        endpoint http://127.0.0.1:1
    }}
    nomad {{
        address http://127.0.0.1:1
    }}
}}
"""


class Broken(Handler):
    name = "broken"

    async def serve_dns(self, request):
        raise RuntimeError("no reply")


def promtool(*words):
    return subprocess.run(
        ["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False
    )


def test_promtool_accepts_the_rules():
    done = promtool("check", "rules", RULES.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"SUCCESS: {len(ALERTS)} rules found" in done.stdout


def test_unit_tests_of_the_rules():
    done = promtool("test", "rules", TESTS.name)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_every_alert_is_tested_before_and_after_it_fires():
    for name, test in zip(NAMES, yaml.safe_load(TESTS.read_text())["tests"], strict=True):
        early, late = test["alert_rule_test"]
        assert [test["name"], early["alertname"], late["alertname"]] == [name] * 3
        assert "exp_alerts" not in early
        (fired,) = late["exp_alerts"]
        assert fired["exp_labels"].get("instance", "a:9253") == "a:9253"


def test_alerts_have_a_name_a_severity_and_annotations():
    assert len(set(NAMES)) == len(NAMES)
    for rule in ALERTS:
        assert re.fullmatch("Corepy[A-Z][A-Za-z]+", rule["alert"])
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["summary"].endswith(".")


def test_every_alert_has_a_runbook():
    sections = re.split(r"^## (\w+)\n", RUNBOOKS.read_text(), flags=re.MULTILINE)[1:]
    assert sections[::2] == NAMES
    for text in sections[1::2]:
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Meaning", "Cause", "Remedy"]
    for rule in ALERTS:
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / path, anchor) == (RUNBOOKS, rule["alert"].lower())


def test_every_selector_is_limited_to_our_jobs():
    """A cluster's CoreDNS has metrics of the same names."""
    for rule in ALERTS:
        every = re.findall(METRIC, rule["expr"])
        assert re.findall(r'(\w+)\{job=~"\.\*corepy\.\*"', rule["expr"]) == every


@pytest.fixture(scope="module")
def exported():
    """The metrics that a running server exports: {name: names of the labels}."""
    found: dict[str, set[str]] = {"up": set()}  # Prometheus' own

    @isolated
    def scrape():
        run("ip", "link", "add", "nodecache", "type", "bridge")  # the kernel may lack dummy
        ports = {"metrics": free_port(), "health": free_port()}
        plugins = with_handlers(broken=Broken)
        with Upstream({"a.example.org. A": ["a.example.org. 60 IN A 192.0.2.1"]}) as upstream:
            text = COREFILE.format(to=upstream.to, **ports)
            with serve(text, plugins=plugins) as server:
                server.ask("a.example.org", "A")
                server.ask("a.broken.org", "A")
                page = http_get(ports["metrics"], "/metrics").text
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)

    scrape()
    return found


def test_the_metrics_are_exported(exported):
    declared = {metric.name: set(metric.label_names) for metric in metrics.registered()}
    used = set()
    for rule in ALERTS:
        names = set(re.findall(METRIC, rule["expr"]))
        used |= names
        labels = set.union(*(exported.get(it) or declared.get(it, set()) for it in names))
        matched = set(re.findall(r"[{,]\s*(\w+)(?:=~|!~|!=|=)\"", rule["expr"]))
        grouped = {
            it for by in re.findall(r"by \(([^)]*)\)", rule["expr"]) for it in by.split(", ")
        }
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
        assert matched | grouped <= labels | OF_TARGETS, rule["alert"]
        assert shown <= (grouped or labels | OF_TARGETS), rule["alert"]
    assert used - exported.keys() <= AFTER_AN_EVENT <= declared.keys()
