"""The *transfer* directive: what it takes and what it refuses (plugin/transfer/setup_test.go)."""

import ipaddress

import pytest

from corepy.corefile import parse, server_keys
from corepy.dns.names import from_text
from corepy.loading.registry import load
from corepy.plugin import BlockConfig, Controller, CorefileError
from corepy.plugin.server_options import ServerAddress, parse_server_address
from corepy.testing import refusal, set_up
from corepy.testing.installed import installed
from corepy_transfer.transfer import Transfer

SECRET = "NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk="


def rules(text, zone="."):
    (handler,) = set_up(text, zone).handlers
    assert isinstance(handler, Transfer)
    return handler.rules


def shown(rule):
    return rule.zones.zones, [str(it) for it in rule.addresses], rule.allows_all, rule.source


def test_the_directives_of_coredns():
    text = (
        "transfer example.net example.org {\n"
        " to 1.2.3.4 5.6.7.8:1053 [1::2]:34 [fe80::1%eth0]:53\n source 2001:db8::53\n}\n"
        "transfer example.com example.edu {\n to * 1.2.3.4\n}"
    )
    assert [shown(rule) for rule in rules(text)] == [
        (
            ("example.net.", "example.org."),
            ["1.2.3.4:53", "5.6.7.8:1053", "[1::2]:34", "[fe80::1%eth0]:53"],
            False,
            "2001:db8::53",
        ),
        (("example.com.", "example.edu."), ["1.2.3.4:53"], True, ""),
    ]


def test_the_zones_are_those_of_the_block_by_default():
    text = "transfer {\n to 1.2.3.4 5.6.7.8:1053 [1::2]:34\n}"
    (rule,) = rules(text, "example.org")
    assert shown(rule)[:2] == (
        ("example.org.",),
        ["1.2.3.4:53", "5.6.7.8:1053", "[1::2]:34"],
    )


def test_to_can_be_repeated():
    (rule,) = rules("transfer {\n to 1.2.3.4\n to 1.2.3.5 10.0.0.0/8 1.2.3.4 2001:db8::/32\n}")
    assert [it.host for it in rule.addresses] == ["1.2.3.4", "1.2.3.5"]
    networks = [ipaddress.ip_network(it) for it in ("10.0.0.0/8", "2001:db8::/32")]
    assert list(rule.networks) == networks


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # Those of CoreDNS.
        ((), "2:1: 'to' is required"),
        (("invalid option",), "3:2: unknown option 'invalid'"),
        (("to 1.2.3.4", "source example.org"), "4:9: invalid source address 'example.org'"),
        (
            ("to 1.2.3.4", "source 192.0.2.53", "source 2001:db8::53"),
            "5:9: source already specified",
        ),
        (("to example.com 1.2.3.4",), "3:5: must specify an IP address: 'example.com'"),
        # Our own.
        (("to",), "3:2: wrong argument count or unexpected line ending after 'to'"),
        (("to 1.2.3.4:0",), "3:5: not a port number: '0'"),
        (("to 1.2.3.4:x",), "3:5: not a port number: 'x'"),
        (("to 1.2.3.4/33",), "3:5: not a network: '1.2.3.4/33'"),
        (("source 1.2.3.4",), "2:1: 'to' is required"),
        (("to *", "source"), "4:2: wrong argument count"),
        (("to *", "key a."), "4:6: unknown key 'a.' (define it with tsig in this server block)"),
        (("to *", "key a..b"), "4:6: unknown key 'a..b'"),
    ],
)
def test_refused(lines, message):
    text = "transfer {\n" + "".join(f" {line}\n" for line in lines) + "}"
    assert str(refusal(text)).startswith(f"Corefile:{message}")


def test_without_a_block():
    assert str(refusal("transfer")).startswith("Corefile:2:1: 'to' is required")


def set_up_both(keys):
    """Run the setups of *tsig* and *transfer* in one block, and return the rule."""
    text = f". {{\ntsig {{\nsecret A.key {SECRET}\n}}\ntransfer {{\nto *\nkey {keys}\n}}\n}}\n"
    block = parse(text).blocks[0]
    config = BlockConfig(server_keys(block, 53))
    for directive in ("tsig", "transfer"):
        controller = Controller(directive, block, config)
        load(installed()[directive]).setup(controller)
    return controller.handlers[0].rules[0]


def test_keys_are_those_of_tsig():
    (key,) = set_up_both("a.KEY").keys
    assert key.name == from_text("a.key.")
    with pytest.raises(CorefileError, match=r"unknown key 'b.key' *\n.*\n.*\n.*known: a.key."):
        set_up_both("b.key")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:DB8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ("[2001:db8::1]:", ("2001:db8::1", 53)),
        ("fe80::1%eth0", ("fe80::1%eth0", 53)),
        ("::ffff:192.0.2.1", ("192.0.2.1", 53)),
    ],
)
def test_addresses(text, address):
    found = parse_server_address(text)
    assert found == ServerAddress(*address)
    assert parse_server_address(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", ":", "a", "1.2.3", "[::1]", "[::1", "::1]:53", "1.2.3.4:65536", "[1.2.3.4]:-1"]
)
def test_bad_addresses(text):
    with pytest.raises(ValueError, match=r"must specify an IP address|not a port number"):
        parse_server_address(text)
