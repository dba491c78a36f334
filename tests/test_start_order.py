"""The server comes up before what it needs is there, and answers as soon as it is."""

import re
from pathlib import Path

import pytest

from corepy.supervise.probe import SILENT_AFTER
from corepy.testing import ask, knot, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import isolated, run

ZONE = "@ 60 SOA ns.example.org. admin.example.org. 1 60 60 60 60\n@ 60 NS ns\nwww 60 A 192.0.2.1\n"
UPSTREAM = "203.0.113.53"


def corefile(host, upstream=UPSTREAM):
    bind = f" bind {host}\n" if host else ""
    return f".:53 {{\n{bind} cache\n forward . {upstream}\n}}\n"


def is_answered(host, **options):
    try:
        return ask((host, 53), "id.server.", **options).header.rcode >= 0
    except OSError:
        return False


def connects():
    """Return the number of TCP connections that were opened in the thread's network namespace."""
    names, values = re.findall(
        r"^Tcp: (.*)$", Path("/proc/thread-self/net/snmp").read_text(), re.MULTILINE
    )
    return int(dict(zip(names.split(), values.split(), strict=True))["ActiveOpens"])


def wait_for_probes(flags):
    """Wait until a supervisor has asked its worker more often than it forgives silence."""
    before = connects()
    wait_until(lambda: not flags or connects() >= before + 2 * SILENT_AFTER)


@pytest.mark.parametrize("flags", [(), ("-supervise",)])
@pytest.mark.parametrize(("host", "prefix"), [("192.0.2.53", 32), ("2001:db8::53", 128)])
@isolated
def test_the_address_comes_after_the_server(host, prefix, flags):
    with run_command(corefile(host), *flags) as command:
        command.wait_for("no interface has this address")
        run("ip", "addr", "add", f"{host}/{prefix}", "dev", "lo", "nodad")
        command.wait_for("an interface has this address now")
        assert is_answered(host)
        assert is_answered(host, tcp=True)
        wait_for_probes(flags)
        assert "killing it" not in command.output
        run("ip", "addr", "del", f"{host}/{prefix}", "dev", "lo")
        run("ip", "addr", "add", f"{host}/{prefix}", "dev", "lo", "nodad")
        wait_until(lambda: is_answered(host))


@isolated
def test_an_address_that_is_there_is_not_spoken_of():
    run("ip", "addr", "add", "192.0.2.53/32", "dev", "lo")
    with run_command(corefile("192.0.2.53 127.0.0.1")) as command:
        assert is_answered("192.0.2.53")
    assert "interface" not in command.output


@isolated
def test_a_missing_address_is_named_once_over_reloads():
    with run_command(corefile("192.0.2.53")) as command:
        for turn in range(2):
            command.send_signal(10)
            command.wait_for("Reloading complete", times=turn + 1)
    assert command.output.count("dns://192.0.2.53:53: no interface has this address") == 1


@isolated
def test_without_a_route_clients_are_told_so_until_the_upstream_can_be_reached():
    route = f"{UPSTREAM}/32 dev lo".split()
    run("ip", "addr", "add", *route)
    with knot(ZONE, "example.org", host=UPSTREAM) as (_, port):
        run("ip", "addr", "del", *route)
        with run_command(corefile("127.0.0.1", f"{UPSTREAM}:{port}")) as command:
            assert command.ask("www.example.org.").header.rcode == 2
            run("ip", "addr", "add", *route)
            wait_until(lambda: command.ask("www.example.org.").header.rcode == 0)


@pytest.mark.parametrize("flags", [(), ("-supervise",)])
@isolated
def test_a_wildcard_on_a_host_whose_ipv6_is_switched_off(flags):
    run("sysctl", "-w", "net.ipv6.conf.all.disable_ipv6=1")
    with run_command(corefile(""), *flags) as command:
        wait_for_probes(flags)
        assert is_answered("127.0.0.1")
        assert "killing it" not in command.output


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
@isolated
def test_before_loopback_is_up(host):
    run("ip", "link", "set", "lo", "down")
    run("ip", "addr", "flush", "dev", "lo")
    with run_command(corefile(host)) as command:
        run("ip", "addr", "add", "127.0.0.1/8", "dev", "lo")
        run("ip", "link", "set", "lo", "up")
        command.wait_for("an interface has this address now")
        assert is_answered("127.0.0.1")
