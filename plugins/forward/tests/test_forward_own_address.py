"""The real command refuses a server block that would be its own upstream, and says so in one line."""

import pathlib
import tempfile

import pytest

from corepy.testing import Upstream, free_port, run_command
from corepy.testing.netns import isolated, run


def free_ports(count):
    return [free_port() for _ in range(count)]


def refusal(text):
    with run_command(text, wait=False) as command:
        assert command.process.wait(60) == 1
        command.end()
        return command.output


@pytest.mark.parametrize(
    ("hosts", "to"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1 ::1", "[::1]"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("lo", "127.0.0.1"),
    ],
)
def test_explicit_address(hosts, to):
    """Known at load: the message shows the place in the Corefile."""
    (port,) = free_ports(1)
    output = refusal(f".:{port} {{\nbind {hosts}\nforward . 192.0.2.1 {to}:{port}\n}}\n")
    first, *rest = output.splitlines()
    assert ":3:21: " in first, output
    shown = to.replace("::ffff:", "").strip("[]") if "ffff" in to else to
    assert f"upstream {shown}:{port} is an address that this server listens on" in first
    assert any("^~" in line for line in rest)
    assert "queries would loop" in output


@pytest.mark.parametrize("to", ["127.0.0.1", "127.0.0.77", "[::1]"])
def test_wildcard(to):
    """Known when the addresses of this machine are looked at, before a socket is bound."""
    (port,) = free_ports(1)
    output = refusal(f".:{port} {{\nforward . {to}:{port}\n}}\n")
    assert output == (
        f"corepy: plugin/forward: upstream {to}:{port} is an address that this server listens on"
        " for .; queries would loop"
    )


@isolated
def test_resolv_conf_names_the_node_local_cache():
    """How users meet it: the node's resolv.conf has the address of the cache that reads it. The
    line is skipped; a file with nothing else is refused.
    """
    run("ip", "addr", "add", "169.254.20.10/32", "dev", "lo")
    with tempfile.TemporaryDirectory() as folder:
        conf = pathlib.Path(folder, "resolv.conf")
        own = f"{conf}:{{}}: 169.254.20.10:53 is this server itself; the line is skipped"
        for bind in ("bind 169.254.20.10\n", ""):
            text = f".:53 {{\n{bind}forward . {conf}\n}}\n"
            conf.write_text("search example.org\nnameserver 192.0.2.1\nnameserver 169.254.20.10\n")
            with run_command(text) as command:
                command.wait_for(own.format(3))
            conf.write_text("nameserver 169.254.20.10\n")
            output = refusal(text)
            assert own.format(1) in output


def test_another_block_is_as_good_an_upstream_as_any():
    """CoreDNS's manual does so, for upstreams with different names in TLS."""
    near, far = free_ports(2)
    records = {"www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"]}
    with Upstream(records) as upstream:
        for bind in ("", "bind 127.0.0.1\n"):
            text = (
                f".:{near} {{\n{bind}forward . 127.0.0.1:{far}\n}}\n"
                f".:{far} {{\n{bind}forward . {upstream.to}\n}}\n"
            )
            with run_command(text) as command:
                assert command.ask("www.example.org").rr
