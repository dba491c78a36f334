"""The *shed* directive: what it takes and what it refuses (plugin/shed/setup_test.go)."""

import pytest

import corepy_shed
from corepy import corefile
from corepy.corefile import CorefileError, parse
from corepy.plugin import BlockConfig, Controller
from corepy.server.build.builder import build
from corepy.testing import refusal, set_up
from corepy_shed.dropped import DropCounter


@pytest.mark.parametrize("zone", [".", "example.org.:53 dns://.:53"])
def test_accepted(zone):
    controller = set_up("shed", zone)
    assert controller.handlers == []
    assert [type(it) for it in controller.hooks] == [DropCounter]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # The refused cases of CoreDNS.
        (
            "shed extra",
            "Corefile:2:6: wrong argument count or unexpected line ending after 'extra'",
        ),
        (
            "shed {\n depth 10\n}",
            "Corefile:3:2: unknown option 'depth' (this directive has no options)",
        ),
        ("shed\nshed", "Corefile:3:1: this plugin can only be used once per Server Block"),
    ],
)
def test_refused(text, message):
    assert str(refusal(text)) == message


@pytest.mark.parametrize("key", ["tls://.:853", "grpc://.:443", "https://.:443", "quic://.:853"])
def test_only_plain_dns(key):
    """The keys are read with schemes that the server may not serve."""
    block = corefile.parse(f"example.org {key} {{\nshed\n}}\n").blocks[0]
    config = BlockConfig(corefile.server_keys(block, 53))
    with pytest.raises(CorefileError) as raised:
        corepy_shed.setup(Controller("shed", block, config))
    transport = key.partition(":")[0]
    assert str(raised.value.diagnostics[0]) == (
        f"Corefile:2:1: shed in a server block for {key!r}, whose transport is {transport!r}"
        " (use shed in server blocks for plain DNS only)"
    )


def test_the_packet_cache_stays_on():
    text = ". {\nshed\ncache\nforward . 192.0.2.53\n}"
    (router,) = build(parse(text)).routers.values()
    assert router.routes[0].obstacle is None
