"""The directive: what it accepts, what it refuses, and what it makes of the server block."""

import sys

import pytest

from corepy.plugin import CorefileError
from corepy.testing import controller_for
from corepy_nodecache.settings import Settings
from corepy_nodecache.setup import parse, setup

HOSTS = ("169.254.20.10", "FD00::10")
IPS = ("169.254.20.10", "fd00::10")


def settings_of(text: str, zone: str = ".", hosts: tuple[str, ...] = HOSTS) -> Settings:
    controller = controller_for(f"nodecache {text}", zone, hosts)
    return parse(controller)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Settings(IPS)),
        ("skipteardown", Settings(IPS, skip_teardown=True)),
        ("SkipTearDown", Settings(IPS, skip_teardown=True)),
        ("skipteardown skipteardown", Settings(IPS, skip_teardown=True)),
        ("{\n}", Settings(IPS)),
        ("{\ninterface nodelocaldns\n}", Settings(IPS, interface="nodelocaldns")),
        ("{\niptables legacy\n}", Settings(IPS, iptables="legacy")),
        ("{\niptables off\ndevice off\n}", Settings(IPS, iptables="off", device=False)),
        ("{\ninterval 1m30s\n}", Settings(IPS, interval=90.0)),
        ("{\ninterval 0\n}", Settings(IPS, interval=0.0)),
        ("skipteardown {\ndevice on\n}", Settings(IPS, skip_teardown=True)),
        ("\nnodecache skipteardown", Settings(IPS, skip_teardown=True)),
        ("\nhealth 169.254.20.10:8080", Settings(IPS, health=(("169.254.20.10", 8080),))),
        ("\nhealth [fd00::10]:8080", Settings(IPS, health=(("fd00::10", 8080),))),
        ("\nhealth :8080", Settings(IPS)),
        ("\nhealth", Settings(IPS)),
        ("\nhealth 127.0.0.1:8080", Settings(IPS)),
        ("{\naddress 10.0.0.1 FD00::1\naddress 10.0.0.1\n}", Settings(("10.0.0.1", "fd00::1"))),
        ("{\nport 5300\n}", Settings(IPS, (5300,))),
        ("{\nhealth_port 99\n}", Settings(IPS, health=tuple((ip, 99) for ip in IPS))),
        (
            "{\naddress 10.0.0.1\nhealth_port 99\n}\nhealth 10.0.0.1:8080",
            Settings(("10.0.0.1",), health=(("10.0.0.1", 99),)),
        ),
        ("{\nbest_effort\n}", Settings(IPS, best_effort=True)),
        ("{\nmetrics :9353\n}", Settings(IPS, metrics=":9353")),
        ("{\nmetrics :1\nmetrics localhost:2\n}", Settings(IPS, metrics="localhost:2")),
        ("{\nadopt_node_cache\n}", Settings(IPS, adopt_node_cache=True)),
    ],
)
def test_accepted(text: str, expected: Settings) -> None:
    assert settings_of(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skipteardwn", "did you mean 'skipteardown'"),
        ("{\ninterfaces x\n}", "did you mean 'interface'"),
        ("{\ninterface\n}", "wrong argument count"),
        ("{\ninterface a b\n}", "wrong argument count"),
        ("{\ninterface sixteen-letters-\n}", "is not the name of an interface"),
        ("{\ninterface a/b\n}", "is not the name of an interface"),
        ('{\ninterface "a b"\n}', "is not the name of an interface"),
        ("{\niptables nftables\n}", "'nftables' is not one of auto, legacy, nft, off"),
        ("{\ndevice yes\n}", "'yes' is not one of on, off"),
        ("{\naddress\n}", "wrong argument count"),
        ("{\naddress 0.0.0.0\n}", "0.0.0.0 is not the address of a host"),
        ("{\naddress x\n}", "'x' does not appear to be an IPv4 or IPv6 address"),
        ("{\nport\n}", "wrong argument count"),
        ("{\nport 65536\n}", "'65536' is not a port"),
        (f"{{\nport {'9' * 5000}\n}}", "'9+' is not a port"),
        ("{\nhealth_port http\n}", "'http' is not a port"),
        ("{\nbest_effort on\n}", "wrong argument count"),
        ("{\nmetrics\n}", "wrong argument count"),
        ("{\nmetrics :1 :2\n}", "wrong argument count"),
        ("{\nmetrics 9353\n}", "address 9353: missing port in address"),
        ("{\nmetrics :99999\n}", "port 99999 is outside 0 to 65535"),
        ("{\nmetrics 1.2.3:80\n}", "no IP address or host name"),
        ("{\nadopt_node_cache on\n}", "wrong argument count"),
        ("{\ninterval 10\n}", "missing unit in duration '10'"),
        ("{\ninterval 500ms\n}", "is not an interval"),
        ("{\ninterval -10s\n}", "is not an interval"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings_of(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "fe80::1%eth0"])
def test_addresses_that_cannot_be_taken_are_refused(host: str) -> None:
    with pytest.raises(CorefileError, match="nodecache cannot use an address of bind"):
        settings_of("", hosts=(host,))


@pytest.mark.parametrize("hosts", [(), ("0.0.0.0",), ("0.0.0.0", "10.0.0.1"), ("fe80::1%eth0",)])
def test_nothing_to_manage_needs_no_addresses(hosts: tuple[str, ...]) -> None:
    text = "{\ndevice off\niptables off\nmetrics :1\n}"
    expected = Settings((), device=False, iptables="off", metrics=":1")
    assert settings_of(text, hosts=hosts) == expected
    controller = controller_for(f"nodecache {text}", hosts=hosts)
    setup(controller)
    assert [type(hook).__name__ for hook in controller.hooks] == ["SetupMetrics"]
    assert list(controller.warnings) == []


def test_every_port_of_the_block_counts() -> None:
    assert settings_of("", "a.example:5300 b.example:5301 c.example:5300").ports == (5300, 5301)


def test_without_bind_upstreams_address_is_used_and_warned_of() -> None:
    controller = controller_for("nodecache")
    assert parse(controller).ips == ("192.168.10.100",)
    (warning,) = controller.warnings
    assert "no bind" in warning.message


def test_setup_registers_and_loads_nothing_heavy() -> None:
    """`corepy -check` needs neither pyroute2 nor python-iptables nor privileges."""
    before = set(sys.modules)
    controller = controller_for("nodecache", hosts=HOSTS)
    setup(controller)
    assert len(controller.hooks) == 1
    assert not {"pyroute2", "iptc"} & (set(sys.modules) - before)


def test_errors_are_shown_before_the_first_one_comes():
    """A rate of something that is not there is no rate."""
    from corepy_nodecache.metrics import setup_errors

    kinds = {labels for (labels,), _ in setup_errors.children()}
    assert kinds >= {"interface_add", "interface_check", "iptables", "iptables_lock"}
