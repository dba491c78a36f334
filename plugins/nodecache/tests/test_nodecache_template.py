"""The effective Corefile: placeholders, custom upstreams, stub domains, *nodecache*, origins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.commands.run_server import check_generated, outline_generated
from corepy.plugin import CorefileError
from corepy_nodecache.node_cache.configmap import KubeDNSConfig, StubDomain
from corepy_nodecache.node_cache.corefile_template import (
    HEADER,
    Inputs,
    Made,
    TemplateError,
    make_corefile,
    service_variable,
)
from corepy_nodecache.node_cache.flags import read_flags

BASE = "/etc/coredns/Corefile.base"
IPS = ("169.254.20.10", "10.96.0.10")
FIRST_LINE = f"{HEADER}{BASE}; changes here are lost.\n"
NODECACHE = """\
    nodecache {
        interface nodelocaldns
        address 169.254.20.10 10.96.0.10
        port 53
        health_port 8080
        interval 60s
        metrics 0.0.0.0:9353
        best_effort
        adopt_node_cache
    }
"""


def make(
    template: str,
    *arguments: str,
    stubs: dict[str, list[str]] | None = None,
    upstreams: tuple[str, ...] = (),
    cluster: str = "10.0.0.99",
) -> Made:
    options, _ = read_flags(arguments or ("-localip", ",".join(IPS)), {})
    found = [
        StubDomain(domain, tuple(servers), "/cm/stubDomains", line)
        for line, (domain, servers) in enumerate((stubs or {}).items(), 2)
    ]
    config = KubeDNSConfig(tuple(sorted(found)), upstreams)
    return make_corefile(Inputs(template, BASE, options, config, cluster))


def text_of(template: str, *arguments: str, **values: Any) -> str:
    """The effective text without its first line and without *nodecache*."""
    text = make(template, *arguments, **values).corefile.text
    assert text.startswith(FIRST_LINE)
    return text.removeprefix(FIRST_LINE).replace(NODECACHE, "", 1)


def test_every_placeholder() -> None:
    template = """\
cluster.local:53 {
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
    prometheus __PROMETHEUS__ENDPOINT__
    health 169.254.20.10:8080
}
.:53 {
    bind __PILLAR__LOCAL__DNS__
    forward . __PILLAR__UPSTREAM__SERVERS__ {
            force_tcp
    }
}
"""
    expected = """\
cluster.local:53 {
    bind 169.254.20.10 10.96.0.10 \n\
    forward . 10.0.0.99 {
        force_tcp
    }
    prometheus :9253
    health 169.254.20.10:8080
}
.:53 {
    bind 169.254.20.10 10.96.0.10
    forward . /etc/resolv.conf {
            force_tcp
    }
}
"""
    made = make(template)
    assert made.left_out == ()
    first, rest = expected.split("\n", 1)
    assert made.corefile.text == f"{FIRST_LINE}{first}\n{NODECACHE}{rest}"
    assert check_generated(made.corefile) == ()


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        # node-cache recognizes only the first
        ("    forward . @ {\n            force_tcp\n    }", "    forward . 1.1.1.1 8.8.8.8"),
        ("  forward . @ {\n    force_tcp\n  }", "  forward . 1.1.1.1 8.8.8.8"),
        ("\tforward . @ {\n\t\tforce_tcp\n\t}", "\tforward . 1.1.1.1 8.8.8.8"),
        (
            "    forward . @ {  # tcp\n\n    force_tcp  # yes\n    }",
            "    forward . 1.1.1.1 8.8.8.8",
        ),
        (
            "    forward . @ {\n        force_tcp\n        max_fails 0\n    }",
            "    forward . 1.1.1.1 8.8.8.8 {\n        max_fails 0\n    }",
        ),
        (
            "    forward . @ {\n        prefer_udp\n    }",
            "    forward . 1.1.1.1 8.8.8.8 {\n        prefer_udp\n    }",
        ),
        ("    forward . @", "    forward . 1.1.1.1 8.8.8.8"),
        ("    forward example.org @", "    forward example.org 1.1.1.1 8.8.8.8"),
        (
            "    forward . 9.9.9.9 {\n        force_tcp\n    }",
            "    forward . 9.9.9.9 {\n        force_tcp\n    }",
        ),
    ],
)
def test_force_tcp_and_custom_upstreams(block: str, expected: str) -> None:
    template = f".:53 {{\n{block}\n    bind 10.96.0.10\n}}\n".replace(
        "@", "__PILLAR__UPSTREAM__SERVERS__"
    )
    text = text_of(template, upstreams=("1.1.1.1", "8.8.8.8"))
    assert text == f".:53 {{\n{expected}\n    bind 10.96.0.10\n}}\n"


def test_stub_domains_are_blocks_in_order() -> None:
    made = make(
        ".:53 {\n    whoami\n}",
        stubs={"widget.local": ["[2001:db8::2]:10053", "2001:db8::3"], "acme.local": ["1.2.3.4"]},
    )
    assert made.corefile.text.endswith("""}

acme.local:53 {
    errors
    cache 30
    bind 169.254.20.10 10.96.0.10
    forward . 1.2.3.4
}

widget.local:53 {
    errors
    cache 30
    bind 169.254.20.10 10.96.0.10
    forward . [2001:db8::2]:10053 2001:db8::3
}
""")
    assert check_generated(made.corefile) == ()


def test_stub_domains_that_would_stop_the_start() -> None:
    """An empty list, and a zone of the template; node-cache does not start with either."""
    stubs = {"a.test": [], "b.test": ["1.1.1.1"], "c.test": ["1.1.1.1"], "d.test": ["1.1.1.1"]}
    made = make("b.test C.test:53 d.test:5300 {\n    whoami\n}", stubs=stubs)
    where = "/cm/stubDomains"
    assert made.left_out == (
        f"{where}:2: stubDomains['a.test']: the list of name servers is empty; the domain is left"
        " out",
        f"{where}:3: stubDomains['b.test']: the template has a server block for b.test; the domain"
        " is left out",
        f"{where}:4: stubDomains['c.test']: the template has a server block for c.test; the domain"
        " is left out",
    )
    zones = [str(block.keys[0]) for block in outline_generated(made.corefile)]
    assert zones == ["dns://b.test.:53", "dns://d.test.:53"]
    assert check_generated(made.corefile) == ()


@pytest.mark.parametrize(
    ("template", "cluster", "message"),
    [
        (
            ".:53 {\n  forward . __PILLAR__CLUSTER__DNS__\n}",
            "",
            f"{BASE}:2: __PILLAR__CLUSTER__DNS__: the variable KUBE_DNS_SERVICE_HOST has no IP"
            " address; -upstreamsvc must name a Service of this namespace, and 'kube-dns' is not"
            " one",
        ),
        (
            "__PILLAR__DNS__DOMAIN__:53 {\n}",
            "10.0.0.1",
            f"{BASE}:1: __PILLAR__DNS__DOMAIN__ has no value here: the installation must replace"
            " it",
        ),
        ("", "10.0.0.1", f"{BASE}: the template has no server block"),
        ("# only a comment\n", "10.0.0.1", f"{BASE}: the template has no server block"),
    ],
)
def test_unusable_templates(template: str, cluster: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        make(template, cluster=cluster)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("addresses", "template", "expected"),
    [
        # two arguments of *health*, and so no start, in node-cache
        ("169.254.20.10,10.96.0.10", "health @:8080", "health 169.254.20.10:8080"),
        ("169.254.20.10,fd00::10", "prometheus @:9253 # @", "prometheus 169.254.20.10:9253 # @"),
        # not an address with a port in node-cache
        ("fd00::10", "health @:8080", "health [fd00::10]:8080"),
        ("fd00::10,169.254.20.10", "health [@]:8080", "health [fd00::10]:8080"),
        ("169.254.20.10", "health [@]:8080", "health 169.254.20.10:8080"),
        ("0.0.0.0", "health @:8080", "health 0.0.0.0:8080"),
    ],
)
def test_an_address_with_a_port_is_the_first(addresses: str, template: str, expected: str) -> None:
    """So does the installation script of the official manifest, which has such a *health*."""
    placeholder = "__PILLAR__LOCAL__DNS__"
    text = f".:53 {{\n    whoami\n    {template}\n}}\n".replace("@", placeholder)
    made = make(text, "-localip", addresses)
    line = made.corefile.text.splitlines()[-2]
    assert line == f"    {expected}".replace("@", addresses.replace(",", " "))
    assert check_generated(made.corefile) == ()


def test_a_missing_service_matters_only_where_it_is_used() -> None:
    template = ".:53 {\n    # __PILLAR__CLUSTER__DNS__ __PILLAR__DNS__DOMAIN__\n    whoami\n}"
    text = text_of(template, cluster="")
    assert text == template + "\n"
    assert "nil" not in text


def test_the_variable_of_a_service() -> None:
    assert service_variable("kube-dns-upstream") == "KUBE_DNS_UPSTREAM_SERVICE_HOST"


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("-skipteardown",), ["nodecache skipteardown {"]),
        (("-setupinterface=false",), ["device off"]),
        (("-setupiptables=false",), ["iptables off"]),
        (("-interfacename=dns0", "-health-port=99"), ["interface dns0", "health_port 99"]),
        (("-syncinterval=1.5s", "-dns.port=5300"), ["interval 1.5s", "port 5300"]),
        (("-localip=fd00::10,1.2.3.4",), ["address fd00::10 1.2.3.4"]),
        (("-metrics-listen-address=[::1]:9353",), ["metrics [::1]:9353"]),
    ],
)
def test_nodecache_has_the_values_of_the_flags(
    arguments: tuple[str, ...], lines: list[str]
) -> None:
    made = make(".:53 {\n    whoami\n}", "-localip", IPS[0], *arguments)
    assert [it for it in lines if f" {it}\n" not in made.corefile.text] == []
    assert check_generated(made.corefile) == ()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (".:53 {\n}", ".:53 {\n@}\n"),
        (".:53 { # first\n    whoami\n}", ".:53 {\n@ # first\n    whoami\n}\n"),
        (".:53 { whoami\n}", ".:53 {\n@ whoami\n}\n"),
        ("(s) {\n    log\n}\n.:53 {\n}", "(s) {\n    log\n}\n.:53 {\n@}\n"),
        (".:53,\na.test {\n}", ".:53,\na.test {\n@}\n"),
        (".:53\nwhoami\n", ".:53\n@whoami\n"),
        ("a {\n    nodecache\n    bind 10.1.1.1\n}", "a {\n    nodecache\n    bind 10.1.1.1\n}\n"),
    ],
)
def test_the_place_of_nodecache(template: str, expected: str) -> None:
    made = make(template)
    assert made.corefile.text == FIRST_LINE + expected.replace("@", NODECACHE)
    assert check_generated(made.corefile) == ()


def test_wildcards_have_neither_interface_nor_rules() -> None:
    """Where Cilium redirects the traffic, charts pass the address of all interfaces."""
    template = ".:53 {\n    bind __PILLAR__LOCAL__DNS__\n}"
    made = make(template, "-localip=0.0.0.0")
    metrics = (
        "    nodecache {\n        device off\n        iptables off\n        metrics 0.0.0.0:9353\n"
        "    }\n"
    )
    assert made.corefile.text == f"{FIRST_LINE}.:53 {{\n{metrics}    bind 0.0.0.0\n}}\n"
    assert check_generated(made.corefile) == ()
    made = make(template, "-localip=0.0.0.0", "-metrics-listen-address=")
    assert made.corefile.text == f"{FIRST_LINE}.:53 {{\n    bind 0.0.0.0\n}}\n"


def test_messages_name_the_origin_of_a_line() -> None:
    """The line of the template, where *nodecache* has moved the lines, and the ConfigMap's."""
    template = "a.test {\n    whoami\n    cash 30\n}\nb.test {\n    forward . __PILLAR__LOCAL__DNS__ {\n        nonsense\n    }\n}\n"
    errors = check_generated(make(template).corefile)
    assert [str(it.token and it.token.location) for it in errors] == [f"{BASE}:3:5", f"{BASE}:7:9"]
    shown = str(CorefileError(*errors))
    assert f"{BASE}:3:5: unknown directive 'cash'" in shown
    assert "\n  3 |     cash 30\n" in shown


def test_a_template_that_is_no_corefile() -> None:
    with pytest.raises(CorefileError, match=rf"^{BASE}:1:6: unexpected end of file"):
        make(".:53 {\n    whoami\n")


WORDS = st.sampled_from(
    (
        ".:53", "a.test", "{", "}", "\n", "\n", " ", "bind", "forward .", "force_tcp", "#", '"',
        "import x", "__PILLAR__LOCAL__DNS__", "__PILLAR__UPSTREAM__SERVERS__",
        "__PILLAR__CLUSTER__DNS__", "whoami",
    )
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    st.lists(WORDS | st.text(max_size=4), max_size=20).map(" ".join),
    st.sampled_from([(), ("1.1.1.1",)]),
)
def test_any_template_is_used_or_refused(template: str, upstreams: tuple[str, ...]) -> None:
    try:
        made = make(template, upstreams=upstreams, stubs={"stub.test": ["1.2.3.4"]})
    except (TemplateError, CorefileError):
        return
    assert "__PILLAR__UPSTREAM__SERVERS__" not in made.corefile.text
    assert len(made.corefile.origins) == made.corefile.text.count("\n")
