"""The *secondary* directive: what it takes and refuses (plugin/secondary/setup_test.go)."""

import base64

import pytest

from corepy.corefile import parse, server_keys
from corepy.dns.names import from_text, to_text
from corepy.loading.registry import load
from corepy.plugin import BlockConfig, Controller
from corepy.testing import refusal, set_up
from corepy.testing.installed import installed
from corepy_secondary.secondary import Secondary

SECRET = base64.b64encode(bytes(range(32))).decode()


def settings(text, zone="."):
    (handler,) = set_up(text, zone).handlers
    assert isinstance(handler, Secondary)
    return {to_text(origin): handler.settings_of(origin) for origin in handler.followers}


def block(*lines, zones=""):
    return f"secondary {zones} {{\n" + "".join(f" {line}\n" for line in lines) + "}"


FROM = "transfer from 127.0.0.1"


@pytest.mark.parametrize(
    ("text", "zones", "members"),
    [
        # Those of CoreDNS.
        (block(FROM), ["."], None),
        (block(FROM, zones="example.org"), ["example.org."], None),
        (block(FROM, "catalog", zones="catalog.example"), ["catalog.example."], (".",)),
        (
            block(FROM, "catalog EXAMPLE.ORG internal.example", zones="catalog.example"),
            ["catalog.example."],
            ("example.org.", "internal.example."),
        ),
        (
            block(FROM, "catalog example.org EXAMPLE.ORG", "catalog internal.example", zones="c"),
            ["c."],
            ("example.org.", "example.org.", "internal.example."),
        ),
        (block(FROM, "catalog example.org", "catalog", zones="c"), ["c."], (".",)),
        # Our own.
        (block(FROM, zones="a.example B.example"), ["a.example.", "b.example."], None),
    ],
)
def test_accepted(text, zones, members):
    found = settings(text)
    assert list(found) == zones
    for each in found.values():
        assert [str(it) for it in each.primaries] == ["127.0.0.1:53"]
        assert (each.members.zones if each.members else None) == members


@pytest.mark.parametrize(
    ("line", "zones"),
    [("", ()), ("fallthrough", (".",)), ("fallthrough example.org", ("example.org.",))],
)
def test_fallthrough(line, zones):
    (found,) = settings(block(FROM, line, zones="example.org")).values()
    assert found.fallthrough.zones == zones


def test_servers_are_tried_in_the_order_of_the_corefile():
    text = block(
        "transfer from 192.0.2.2 [2001:db8::1]:5353", "transfer from 192.0.2.1:53 192.0.2.2"
    )
    (found,) = settings(text).values()
    addresses = [str(it) for it in found.primaries]
    assert addresses == ["192.0.2.2:53", "[2001:db8::1]:5353", "192.0.2.1:53"]


def test_several_directives(tmp_path):
    text = f"{block(FROM, zones='a')}\n{block('transfer from ::1', f'store {tmp_path}', zones='b')}"
    found = settings(text)
    assert {zone: str(it.primaries[0]) for zone, it in found.items()} == {
        "a.": "127.0.0.1:53",
        "b.": "[::1]:53",
    }
    assert found["a."].store is None
    assert found["b."].store.folder == tmp_path


def test_the_key_is_one_of_tsig():
    text = f". {{\ntsig {{\nsecret A.key {SECRET}\n}}\n{block(FROM, 'key a.KEY')}\n}}\n"
    parsed = parse(text).blocks[0]
    config = BlockConfig(server_keys(parsed, 53))
    for directive in ("tsig", "secondary"):
        controller = Controller(directive, parsed, config)
        load(installed()[directive]).setup(controller)
    (handler,) = controller.handlers
    (primary,) = handler.settings_of(b"\0").primaries
    assert (primary.key.name, str(primary)) == (from_text("a.key."), "127.0.0.1:53")
    assert SECRET not in repr(primary)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Those of CoreDNS.
        (block(FROM, "catalog :"), "4:10: "),
        ("secondary", "2:1: secondary zones require a transfer from property"),
        (
            block("transferr from 127.0.0.1", zones="example.org"),
            "3:2: unknown option 'transferr' (did you mean 'transfer'?)",
        ),
        # Our own.
        (block("transfer"), "3:2: wrong argument count"),
        (block("transfer to 127.0.0.1"), "3:11: unknown property 'to' (transfer from ADDRESS...)"),
        (block("transfer from"), "3:11: wrong argument count"),
        (block("transfer from *"), "3:16: can't use '*' in transfer from"),
        (block("transfer from a.example"), "3:16: must specify an IP address: 'a.example'"),
        (block(FROM, "key"), "4:2: wrong argument count"),
        (block(FROM, "key a."), "4:6: unknown key 'a.' (define it with tsig"),
        (block(FROM, "store"), "4:2: wrong argument count"),
        (
            f"{block(FROM, zones='a b')}\n{block(FROM, zones='b')}",
            "5:1: this zone has primary servers already, at Corefile:2:1",
        ),
    ],
)
def test_refused(text, message):
    assert str(refusal(text)).startswith(f"Corefile:{message}")
