"""The *search_guard* directive: what it takes and what it refuses, and the names that it finds."""

from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text, is_subdomain, lower, to_text
from corepy.testing import refusal, set_up
from corepy_search_guard.domains import Domain, SearchDomains

OFF = "resolv_conf off"


def domains_of(options):
    body = "\n".join(f"    {it}" for it in options)
    (handler,) = set_up(f"search_guard {{\n{body}\n}}").handlers
    return handler


@pytest.mark.parametrize(
    ("options", "domains"),
    [
        ([OFF], ["cluster.local."]),
        ([OFF, "cluster k8s.example"], ["k8s.example."]),
        ([OFF, "cluster a.example x y", "cluster b.example"], ["a.example.", "b.example."]),
        ([OFF, "cluster off"], []),
        ([OFF, "search corp.example Lan."], ["cluster.local.", "corp.example.", "lan."]),
        ([OFF, "search ns.svc.cluster.local cluster.local"], ["cluster.local."]),
        (
            [OFF, "cluster off", "search a.example", "search b.example"],
            ["a.example.", "b.example."],
        ),
        ([OFF, "external consul internal", "except db.example", "max_ttl 1h"], ["cluster.local."]),
    ],
)
def test_accepted(options, domains):
    assert sorted(to_text(it) for it in domains_of(options).domains.tails) == domains


def test_without_a_block_the_resolv_conf_of_the_node_is_read():
    (handler,) = set_up("search_guard").handlers
    assert from_text("cluster.local.") in handler.domains.tails


@pytest.mark.parametrize("kind", ["file", "missing", "folder"])
def test_the_resolv_conf_of_the_node_is_watched_even_if_it_is_missing(tmp_path, monkeypatch, kind):
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(import_module("corepy_search_guard.setup"), "DEFAULT_FILE", path)
    if kind == "file":
        path.write_text("search corp.example\n")
    elif kind == "folder":
        path.mkdir()
    controller = set_up("search_guard")
    (handler,) = controller.handlers
    domains = {"file": ["cluster.local.", "corp.example."]}.get(kind, ["cluster.local."])
    assert sorted(to_text(it) for it in handler.domains.tails) == domains
    assert controller.files == [path]
    messages = [it.message for it in controller.warnings]
    assert messages == ([f"cannot read {path}: Is a directory"] if kind == "folder" else [])


@pytest.mark.parametrize("argument", ["off", "{}/other.conf"])
def test_the_resolv_conf_of_the_node_is_not_read_beside_the_option(tmp_path, monkeypatch, argument):
    path = tmp_path / "resolv.conf"
    path.write_text("search corp.example\n")
    (tmp_path / "other.conf").write_text("search other.example\n")
    monkeypatch.setattr(import_module("corepy_search_guard.setup"), "DEFAULT_FILE", path)
    controller = set_up(f"search_guard {{\n resolv_conf {argument.format(tmp_path)}\n}}")
    (handler,) = controller.handlers
    others = [] if argument == "off" else ["other.example."]
    assert [to_text(it) for it in handler.domains.tails] == ["cluster.local.", *others]
    assert path not in controller.files


ARGUMENTS = "wrong argument count or unexpected line ending after"
OPTIONS = "cluster, except, external, max_ttl, resolv_conf, search"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search_guard x", f"Corefile:2:14: {ARGUMENTS} 'x' (options are in the block, such as: "),
        ("search_guard {\n foo\n}", "Corefile:3:2: unknown option 'foo' (known options: "),
        ("search_guard {\n search\n}", f"Corefile:3:2: {ARGUMENTS} 'search' (such as: search "),
        ("search_guard {\n search .\n}", "Corefile:3:9: the root is not a search domain"),
        ("search_guard {\n search a..b\n}", "Corefile:3:9: empty label in name 'a..b'"),
        ("search_guard {\n cluster a b.c\n}", "Corefile:3:12: 'b.c' is not a single label"),
        ("search_guard {\n external .\n}", "Corefile:3:11: the root is not a label"),
        ("search_guard {\n except .\n}", "Corefile:3:9: the root is not a zone to except"),
        ("search_guard {\n cluster .\n}", "Corefile:3:10: the root is not a cluster domain"),
        ("search_guard {\n external a.b\n}", "Corefile:3:11: 'a.b' is not a single label"),
        ("search_guard {\n except\n}", f"Corefile:3:2: {ARGUMENTS} 'except' (such as: except "),
        ("search_guard {\n max_ttl\n}", f"Corefile:3:2: {ARGUMENTS} 'max_ttl' (such as: max_ttl "),
        ("search_guard {\n cluster\n}", f"Corefile:3:2: {ARGUMENTS} 'cluster' (such as: cluster "),
        ("search_guard {\n external\n}", f"Corefile:3:2: {ARGUMENTS} 'external' (such as: "),
        ("search_guard {\n cluster off x\n}", "Corefile:3:14: cluster off has no namespaces"),
        ("search_guard {\n max_ttl 0\n}", "Corefile:3:10: max_ttl 0 is out of range"),
        ("search_guard {\n max_ttl 2h\n}", "Corefile:3:10: max_ttl 2h is out of range"),
        ("search_guard {\n max_ttl x\n}", "Corefile:3:10: "),
        ("search_guard {\n resolv_conf\n}", f"Corefile:3:2: {ARGUMENTS} 'resolv_conf' (such as: "),
        (
            "search_guard {\n resolv_conf /nowhere\n}",
            "Corefile:3:14: cannot read /nowhere: No such file or directory",
        ),
        ("search_guard\nsearch_guard", "Corefile:3:1: "),
    ],
)
def test_refused(text, message):
    assert str(refusal(text)).startswith(message)


def test_the_domains_of_a_file(tmp_path):
    """Top-level domains are left out, and invalid names."""
    path = tmp_path / "resolv.conf"
    path.write_text("search com . corp.example a..b Eu.corp.example.\n")
    controller = set_up(f"search_guard {{\n resolv_conf {path}\n cluster off\n}}")
    (handler,) = controller.handlers
    assert handler.domains.tails == (from_text("corp.example."), from_text("eu.corp.example."))
    (warning,) = controller.warnings
    assert warning.message == (
        f"{path}: line 1: empty label in name 'a..b'; this domain is skipped"
    )


CLUSTER = Domain(from_text("cluster.local."), True)
LISTED = Domain(from_text("listed.example."), True, frozenset([b"\4prod"]))
DOMAINS = SearchDomains(
    [CLUSTER, LISTED, Domain(from_text("eu.corp.example.")), Domain(from_text("corp.example."))],
    [from_text("kept.corp.example.")],
)


@pytest.mark.parametrize(
    ("name", "covering"),
    [
        ("www.example.com.", None),
        ("cluster.local.", None),
        ("x.cluster.local.", None),
        ("www.com.cluster.local.", ["com.cluster.local."]),
        ("svc.cluster.local.", None),
        ("x.svc.cluster.local.", None),
        ("redis.prod.svc.cluster.local.", ["prod.svc.cluster.local."]),
        ("redis.default.svc.cluster.local.", None),
        ("x.com.default.svc.cluster.local.", ["com.default.svc.cluster.local."]),
        (
            "w.x.com.ns.svc.cluster.local.",
            ["ns.svc.cluster.local.", "com.ns.svc.cluster.local."],
        ),
        ("w.x.com.svc.cluster.local.", ["com.svc.cluster.local.", "x.com.svc.cluster.local."]),
        ("10-0-0-1.ns.pod.cluster.local.", None),
        ("_http._tcp.x.ns.svc.cluster.local.", None),
        ("w.com.prod.svc.listed.example.", ["com.prod.svc.listed.example."]),
        ("w.com.test.svc.listed.example.", ["test.svc.listed.example."]),
        ("web.eu.corp.example.", None),
        ("w.com.eu.corp.example.", ["com.eu.corp.example."]),
        ("w.com.corp.example.", ["com.corp.example."]),
        ("w.com.kept.corp.example.", None),
        ("w.com.xcorp.example.", None),
    ],
)
def test_covering_names(name, covering):
    match = DOMAINS.find(from_text(name))
    assert (match and [to_text(it) for it in match.covering]) == covering


LABELS = st.sampled_from(["svc", "pod", "default", "com", "corp", "kept", "eu", "prod", "a", "_b"])
TAILS = st.sampled_from(["cluster.local.", "listed.example.", "corp.example.", "example.", "com."])


@settings(deadline=None, max_examples=50)
@given(labels=st.lists(LABELS, max_size=8), tail=TAILS)
def test_a_covering_name_is_above_the_name_and_below_the_domain(labels, tail):
    name = lower(from_text(".".join([*labels, tail])))
    match = DOMAINS.find(name)
    if match is None:
        return
    assert not is_subdomain(name, from_text("kept.corp.example."))
    for covering in match.covering:
        assert is_subdomain(name, covering)
        assert is_subdomain(covering, match.domain.name)
        assert covering not in (name, match.domain.name)
        assert not any(is_subdomain(tail, covering) for tail in DOMAINS.tails)
