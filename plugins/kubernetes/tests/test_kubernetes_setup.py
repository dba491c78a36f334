"""Setup: the cases of plugin/kubernetes/setup_test.go and setup_ttl_test.go."""

import sys

import pytest

from corepy.corefile import parse
from corepy.loading.registry import find
from corepy.plugin import CorefileError
from corepy.server.build.builder import build
from corepy.testing import controller_for, refusal
from corepy_kubernetes.lookup import PodMode

parsing = sys.modules["corepy_kubernetes.setup"]
ENDPOINT = "endpoint http://127.0.0.1:9"
COUNT = "wrong argument count"


def set_up(lines="", zones="coredns.local", directives="", **more):
    """The handler of a directive with these options, and its warnings."""
    text = f"kubernetes {zones} {{\n{ENDPOINT}\n{lines}\n}}\n{directives}"
    controller = controller_for(text, **more)
    parsing.setup(controller)
    (handler,) = controller.handlers
    return handler, [warning.message for warning in controller.warnings]


@pytest.fixture
def seen(monkeypatch):
    """The needs that are passed to the client of the API."""
    needs = []

    def make_source(options, needed, feed, name):
        needs.append(needed)
        return real(options, needed, feed, name)

    real = parsing.make_source
    monkeypatch.setattr(parsing, "make_source", make_source)
    return needs


SELECTOR = "application=nginx,environment in (production,qa,staging)"

ACCEPTED = [
    ("", {}, {}),
    ("namespaces demo", {"namespaces": {"demo"}}, {}),
    ("namespaces demo test", {"namespaces": {"demo", "test"}}, {}),
    ("labels environment=prod", {}, {"labels": "environment=prod"}),
    ("labels environment in (production, staging, qa),application=nginx", {}, {"labels": SELECTOR}),
    ("namespace_labels istio-injection=enabled", {}, {"namespace_labels": "istio-injection=enabled"}),
    ("pods disabled", {"pods": PodMode.DISABLED}, {"pods": False}),
    ("pods insecure", {"pods": PodMode.INSECURE}, {"pods": False}),
    ("pods verified", {"pods": PodMode.VERIFIED}, {"pods": True, "pod_labels": False}),
    ("fallthrough", {"fallthrough": (".",)}, {}),
    ("fallthrough ip6.arpa inaddr.arpa foo.com", {"fallthrough": ("ip6.arpa.", "inaddr.arpa.", "foo.com.")}, {}),
    ("startup_timeout 1s", {"timeout": 1.0}, {}),
    ("endpoint_pod_names", {"pod_names": True}, {"pod_names": True}),
    ("noendpoints", {}, {"slices": False}),
    ("ignore empty_service", {"ignore_empty": True}, {}),
    ("ignore", {"ignore_empty": False}, {}),
    ("ignore empty_service now", {"ignore_empty": True}, {}),
    ("zonal", {"zonal": True}, {"zones": True}),
    ("multicluster coredns.local", {"multicluster": True}, {"imports": True}),
    ("multicluster", {"multicluster": False}, {"imports": False}),
    ("multicluster coredns.local\nnoendpoints", {"multicluster": True}, {"imports": True, "slices": False}),
    ("ttl 56", {"ttl": 56}, {}),
    ("ttl 0", {"ttl": 0}, {}),
    ("ttl 3600 x", {"ttl": 3600}, {}),
    ("apiserver_qps 10", {}, {}),
    ("apiserver_burst 20", {}, {}),
    ("apiserver_max_inflight 5", {}, {}),
    ("apiserver_qps 0\napiserver_burst 0\napiserver_max_inflight 0", {}, {}),
]  # fmt: skip

DEFAULTS = {
    "pods": PodMode.DISABLED, "pod_names": False, "ignore_empty": False, "zonal": False,
    "fallthrough": (), "timeout": 5.0, "ttl": 5, "namespaces": None, "multicluster": False,
}  # fmt: skip


@pytest.mark.parametrize(("lines", "expected", "needed"), ACCEPTED)
def test_options(seen, lines, expected, needed):
    handler, _ = set_up(lines)
    rules = handler.rules
    found = {
        "pods": rules.pods,
        "pod_names": rules.pod_names,
        "ignore_empty": rules.ignore_empty,
        "zonal": rules.zonal,
        "fallthrough": handler.fallthrough.zones,
        "timeout": handler.startup_timeout,
        "ttl": handler.answers.ttl,
        "namespaces": handler.index.configured,
        "multicluster": handler.own_zones.all[0].is_multicluster,
    }
    assert found == DEFAULTS | expected
    (needs,) = seen
    assert {key: getattr(needs, key) for key in needed} == needed


@pytest.mark.parametrize(
    ("zones", "block", "expected"),
    [
        ("", "cluster.local", ["cluster.local."]),
        ("coredns.local test.local", ".", ["coredns.local.", "test.local."]),
        ("cluster.local 10.0.0.0/8", ".", ["cluster.local.", "10.in-addr.arpa."]),
        ("in-addr.arpa cluster.local", ".", ["in-addr.arpa.", "cluster.local."]),
    ],
)
def test_zones(zones, block, expected):
    handler, _ = set_up(zones=zones, zone=block)
    assert [zone.text for zone in handler.own_zones.all] == expected
    assert not handler.own_zones.primary.is_reverse


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kubernetes a {\nnamespaces\n}", COUNT),
        ("kubernetes a {\nlabels\n}", COUNT),
        ("kubernetes a {\nnamespace_labels\n}", COUNT),
        ("kubernetes a {\nlabels environment in (production, qa\n}", "unable to parse label selector"),
        ("kubernetes a {\nnamespace_labels a b\n}", "unable to parse label selector"),
        ("kubernetes a {\nnamespaces foo bar\nnamespace_labels x=y\n}", "namespaces and namespace_labels cannot both be set"),
        ("kubernetes a {\npods giant_seed\n}", "wrong value for pods"),
        ("kubernetes a {\npods\n}", COUNT),
        ("kubernetes a {\npods verified insecure\n}", COUNT),
        ("kubernetes a\nkubernetes b", "can only be used once"),
        ("kubernetes a {\nendpoint_pod_names giant_seed\n}", COUNT),
        ("kubernetes a {\nnoendpoints ixnay on the endpointsay\n}", COUNT),
        ("kubernetes a {\nignore ixnay on the endpointsay\n}", "unable to parse ignore value"),
        ("kubernetes a {\nzonal yes\n}", COUNT),
        ("kubernetes a {\nzonal\nnoendpoints\n}", "zonal requires endpoints"),
        ("kubernetes a {\nmulticluster b\n}", "not authoritative for the multicluster zone b."),
        ("kubernetes a {\nttl -1\n}", "ttl must be in range [0, 3600]"),
        ("kubernetes a {\nttl 3601\n}", "ttl must be in range [0, 3600]"),
        ("kubernetes a {\nttl\n}", COUNT),
        ("kubernetes a {\nttl 5s\n}", "not a whole number"),
        ("kubernetes a {\nstartup_timeout\n}", COUNT),
        ("kubernetes a {\nstartup_timeout 1x\n}", "1x"),
        ("kubernetes in-addr.arpa 10.0.0.0/8", "non-reverse zone name must be used"),
        ("kubernetes a {\nlabel x=y\n}", "unknown option 'label'"),
    ],
)  # fmt: skip
def test_refusals(text, message):
    diagnostic = refusal(text.replace("{\n", f"{{\n{ENDPOINT}\n") if "{" in text else text)
    assert message in diagnostic.message


def test_all_mistakes_are_reported_together():
    with pytest.raises(CorefileError) as caught:
        set_up("pods x\nttl y\nzonal z")
    assert len(caught.value.diagnostics) == 3


@pytest.mark.parametrize(
    ("lines", "directives", "warning"),
    [
        ("ttl 5 x", "", "'x' is ignored"),
        ("startup_timeout 5s x", "", "'x' is ignored"),
        ("ignore", "", "ignore has no effect"),
        ("ignore empty_service x", "", "'x' is ignored"),
        ("", "autopath @kubernetes", "autopath @kubernetes has no effect"),
        ("pods verified", "autopath @kubernetes", None),
    ],
)
def test_warnings(lines, directives, warning):
    _, warnings = set_up(lines, directives=directives)
    assert [warning in it for it in warnings] == ([True] if warning else [])


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("keep a", "keep a", False),
        ("keep a\nlabels x=y", "keep a", True),
        ("keep a\npods verified", "keep ./a", True),
        ("keep a\nlabels x=y", "keep b", False),
        ("labels x=y", "keep b", False),
    ],
)
def test_a_file_keeps_the_objects_of_one_configuration(first, second, refused, tmp_path):
    """Otherwise the directives would replace the file of each other."""
    blocks = (
        f"{zone} {{\nroot {tmp_path}\nkubernetes {{\n{ENDPOINT}\n{lines}\n}}\n}}\n"
        for zone, lines in (("a.test", first), ("b.test", second))
    )
    corefile = parse("".join(blocks))
    if not refused:
        build(corefile, found=find())
        return
    with pytest.raises(CorefileError, match="is the file of a kubernetes directive with other"):
        build(corefile, found=find())


def test_labels_of_pods_are_kept_only_for_metadata(seen):
    set_up("pods verified", directives="metadata")
    set_up("pods insecure", directives="metadata")
    assert [needs.pod_labels for needs in seen] == [True, False]
