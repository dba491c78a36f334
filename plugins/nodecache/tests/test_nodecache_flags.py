"""The flags of `node-cache`: all of them, Go's syntax, the environment, and the mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy_nodecache.node_cache.flags import (
    FAILURE,
    FLAGS,
    USAGE,
    FlagError,
    HelpRequestedError,
    Options,
    help_text,
    read_flags,
    require_addresses,
    variable_of,
)

V4, V6 = "169.254.20.10", "fd00::10"


def options(*arguments: str, **environment: str) -> Options:
    found, warnings = read_flags(arguments, environment)
    assert warnings == []
    return found


TABLE = [
    # flag, value, field, expected; the flags of node-cache at HEAD, 1.26.7, 1.26.5 and 1.26.4
    ("localip", V4, "local_ips", (V4,)),
    ("localip", f"{V4},10.96.0.10", "local_ips", (V4, "10.96.0.10")),
    ("localip", f"{V4}, {V6}", "local_ips", (V4, V6)),
    ("localip", "FD00:0::10,fd00::10", "local_ips", (V6,)),
    ("localip", "0.0.0.0", "local_ips", ("0.0.0.0",)),
    ("setupinterface", "false", "setup_interface", False),
    ("interfacename", "dns0", "interface", "dns0"),
    ("setupiptables", "false", "setup_iptables", False),
    ("syncinterval", "60", "interval", 60.0),
    ("syncinterval", "60s", "interval", 60.0),
    ("syncinterval", "10s", "interval", 10.0),
    ("syncinterval", "1m30s", "interval", 90.0),
    ("syncinterval", "1ns", "interval", 1.0),  # what the chart of lablabs passes
    ("syncinterval", "60ns", "interval", 60.0),
    ("syncinterval", "1500ms", "interval", 1.5),
    ("metrics-listen-address", "127.0.0.1:9353", "metrics_address", "127.0.0.1:9353"),
    ("prometheus-listen-address", ":9254", "prometheus_address", ":9254"),
    ("basecorefile", "/x/base", "template", "/x/base"),
    ("corefile", "/x/Corefile", "corefile", "/x/Corefile"),
    ("kubednscm", "/x/kube-dns", "kube_dns_folder", "/x/kube-dns"),
    ("upstreamsvc", "kube-dns-upstream", "upstream_service", "kube-dns-upstream"),
    ("health-port", "8099", "health_port", 8099),
    ("skipteardown", "true", "skip_teardown", True),
    ("reloadwithsignal", "true", "reload_with_signal", True),
    ("conf", "/etc/Corefile", "conf", "/etc/Corefile"),
    ("dns.port", "5300", "port", 5300),
    ("p", "5300", "port", 5300),
    ("pidfile", "/run/node-cache.pid", "pidfile", "/run/node-cache.pid"),
    ("quiet", "true", "quiet", True),
    ("plugins", "true", "plugins", True),
    ("version", "true", "version", True),
    ("print-corefile", "true", "print_corefile", True),
]


def test_the_table_has_every_flag() -> None:
    assert {flag for flag, *_ in TABLE} == set(FLAGS)
    assert {field for _, _, field, _ in TABLE} == set(Options._fields)


@pytest.mark.parametrize(("flag", "value", "field", "expected"), TABLE)
def test_a_flag_in_all_its_forms(flag: str, value: str, field: str, expected: Any) -> None:
    wanted = Options()._replace(**{field: expected})
    forms: list[tuple[str, ...]] = [(f"-{flag}={value}",), (f"--{flag}={value}",)]
    if FLAGS[flag].kind == "bool":
        forms += [(f"-{flag}",)] if value == "true" else []
    else:
        forms += [(f"-{flag}", value), (f"--{flag}", value)]
    assert [options(*form) for form in forms] == [wanted] * len(forms)
    if flag != "p":
        assert options(**{variable_of(flag): value}) == wanted


def test_the_defaults() -> None:
    assert options() == Options(
        (), True, "nodelocaldns", True, 60.0, "0.0.0.0:9353", ":9253", "/etc/coredns/Corefile.base",
        "", "/etc/Corefile", "", "kube-dns", 8080,
    )  # fmt: skip


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_go_spells_true(value: str) -> None:
    assert options(f"-skipteardown={value}").skip_teardown


@pytest.mark.parametrize("value", ["0", "f", "F", "FALSE", "false", "False"])
def test_go_spells_false(value: str) -> None:
    assert not options(f"-setupinterface={value}").setup_interface


@pytest.mark.parametrize(
    ("arguments", "field", "expected"),
    [
        (("-health-port", "1", "-health-port=2"), "health_port", 2),
        (("-dns.port", "1", "-p", "2"), "port", 2),
        (("-p", "2", "-dns.port", "1"), "port", 1),
        (("-quiet", "-quiet=false"), "quiet", False),
        (("-interfacename", "-p", "-quiet"), "interface", "-p"),  # a value may begin with a dash
        (("-conf=a=b",), "conf", "a=b"),
        (("-conf=",), "conf", ""),
        (("-quiet", "--"), "quiet", True),
    ],
)
def test_the_last_flag_wins(arguments: tuple[str, ...], field: str, expected: object) -> None:
    assert getattr(options(*arguments), field) == expected


def test_conf_has_precedence_over_corefile() -> None:
    assert options("-conf", "/a", "-corefile", "/b").output == "/a"
    assert options("-corefile", "/b").output == "/b"
    assert options().output == "/etc/Corefile"


def test_a_flag_has_precedence_over_its_variable() -> None:
    environment = {"COREPY_NODE_CACHE_HEALTH_PORT": "1", "COREPY_NODE_CACHE_CONF": ""}
    assert options("-health-port=2", **environment).health_port == 2
    assert options(**environment) == Options(health_port=1)


def test_variables_that_name_no_flag() -> None:
    """A Service with the name corepy-node-cache has variables of the same prefix."""
    environment = {
        "COREPY_NODE_CACHE_LOCALIPS": V4,
        "COREPY_NODE_CACHE_SERVICE_HOST": "10.0.0.1",
        "COREPY_NODE_CACHE_PORT": "tcp://10.0.0.1:9253",
        "COREPY_NODE_CACHE_PORT_9253_TCP_ADDR": "10.0.0.1",
        "COREPY_OTHER": "x",
    }
    found, warnings = read_flags((), environment)
    assert found == Options()
    assert warnings == [
        "the variable COREPY_NODE_CACHE_LOCALIPS names no flag,"
        " did you mean COREPY_NODE_CACHE_LOCALIP?"
    ]


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("9353", "address 9353: missing port in address"),
        ("::1:9353", "address ::1:9353: too many colons in address"),
        (":99999", "address :99999: port 99999 is outside 0 to 65535"),
        ("1.2.3:9353", "address 1.2.3:9353: no IP address or host name: '1.2.3'"),
        (":9353 }", "':9353 }' is no address"),
        ("[fe80::1%{$A}]:9353", "'[fe80::1%{$A}]:9353' is no address"),
    ],
)
def test_a_wrong_address_of_the_metrics_costs_only_them(address: str, problem: str) -> None:
    """node-cache logs that it cannot listen, and goes on."""
    warning = f"-metrics-listen-address: {problem}; the metrics have no second address"
    expected = (Options(metrics_address=""), [warning])
    assert read_flags((f"-metrics-listen-address={address}",), {}) == expected
    assert read_flags((), {variable_of("metrics-listen-address"): address}) == expected


def test_an_empty_address_of_the_metrics() -> None:
    """node-cache would use a random port."""
    assert options("-metrics-listen-address=").metrics_address == ""
    variable = variable_of("metrics-listen-address")
    assert options(**{variable: ""}) == Options()
    assert options("-metrics-listen-address=", **{variable: ":9353"}).metrics_address == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-localips", V4), USAGE, "flag provided but not defined: -localips, did you mean -localip?"),
        (("-setupebtables",), USAGE, "not defined: -setupebtables, did you mean -setupiptables?"),
        (("-xyzzy",), USAGE, "flag provided but not defined: -xyzzy"),
        (("-localip",), USAGE, "flag needs an argument: -localip"),
        (("---localip", V4), USAGE, "bad flag syntax: ---localip"),
        (("-=x",), USAGE, "bad flag syntax: -=x"),
        (("-quiet=yes",), USAGE, "invalid value 'yes' for -quiet: neither true nor false"),
        (("-syncinterval", "0"), USAGE, "invalid value '0' for -syncinterval: must be at least 1s"),
        (("-syncinterval", "0s"), USAGE, "for -syncinterval: must be at least 1s"),
        (("-syncinterval", "-10s"), USAGE, "'-10s' for -syncinterval: must be at least 1s"),
        (("-syncinterval", "-10"), USAGE, "for -syncinterval: missing unit in duration '-10'"),
        (("-syncinterval", "200ms"), USAGE, "for -syncinterval: must be at least 1s"),
        (("-syncinterval", "1 m"), USAGE, "for -syncinterval: unknown unit ' m'"),
        (("-syncinterval", "400y"), USAGE, "for -syncinterval: unknown unit 'y'"),
        (("-interfacename", "a b"), USAGE, "invalid value 'a b' for -interfacename: not the name"),
        (("-interfacename", "sixteen-letters-"), USAGE, "for -interfacename: not the name"),
        (("-interfacename", ".."), USAGE, "for -interfacename: not the name"),
        (("-localip", ""), FAILURE, "invalid value '' for -localip: '' is not an IP address"),
        (("-localip", f"{V4},"), FAILURE, "for -localip: '' is not an IP address"),
        (("-localip", "1.2.3"), FAILURE, "for -localip: '1.2.3' is not an IP address to serve"),
        (("-localip", f"{V4} {V4}"), FAILURE, "is not an IP address to serve; separate addresses by"),
        (("-localip", "fd00::1; fd00::2"), FAILURE, "to serve; separate addresses by commas"),
        (("-localip", "224.0.0.1"), FAILURE, "'224.0.0.1' is not an IP address to serve"),
        (("-localip", "fe80::1%eth0"), FAILURE, "'fe80::1%eth0' is not an IP address to serve"),
        (("-dns.port", "dns"), FAILURE, "invalid value 'dns' for -dns.port: not a port"),
        (("-p", "65536"), FAILURE, "invalid value '65536' for -p: not a port (0 to 65535)"),
        (("-health-port", "-1"), FAILURE, "invalid value '-1' for -health-port: not a port"),
        (("Corefile",), FAILURE, "extra command line arguments: Corefile"),
        (("-quiet", "--", "-quiet"), FAILURE, "extra command line arguments: -quiet"),
        (("-",), FAILURE, "extra command line arguments: -"),
        (
            ("-setupiptables", "false", "-quiet"),
            FAILURE,
            "extra command line arguments: false -quiet (a switch takes its value after =)",
        ),
    ],
)  # fmt: skip
def test_mistakes(arguments: tuple[str, ...], code: int, message: str) -> None:
    with pytest.raises(FlagError) as caught:
        read_flags(arguments, {})
    assert message in str(caught.value)
    assert caught.value.code == code


def test_a_mistake_in_a_variable_names_it() -> None:
    with pytest.raises(FlagError, match="'x' for COREPY_NODE_CACHE_DNS_PORT: not a port"):
        read_flags((), {"COREPY_NODE_CACHE_DNS_PORT": "x"})


def test_addresses_are_required() -> None:
    require_addresses(options("-localip", V4))
    with pytest.raises(FlagError, match="-localip is missing") as caught:
        require_addresses(options())
    assert caught.value.code == FAILURE


@pytest.mark.parametrize("flag", ["-h", "--help", "-help"])
def test_help(flag: str) -> None:
    with pytest.raises(HelpRequestedError):
        read_flags(("-quiet", flag, "-xyzzy"), {})
    assert [name for name in FLAGS if f"\n  -{name}" not in help_text()] == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([f"-{it}" for it in FLAGS]) | st.text(max_size=12), max_size=6))
def test_any_arguments_are_read_or_refused(arguments: list[str]) -> None:
    try:
        found, _ = read_flags(arguments, {})
    except (FlagError, HelpRequestedError):
        return
    assert type(found) is Options
    assert found.interval >= 1


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([variable_of(it) for it in FLAGS]), st.text(max_size=9)))
def test_any_variables_are_read_or_refused(environment: dict[str, str]) -> None:
    try:
        found, _ = read_flags((), environment)
    except FlagError:
        return
    assert type(found) is Options
