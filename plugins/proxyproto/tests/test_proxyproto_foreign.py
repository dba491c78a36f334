"""Debian's proxies in front of the server: haproxy (versions 1 and 2) and dnsdist (UDP and TCP)."""

import socket
import subprocess
from contextlib import contextmanager

import pytest

from corepy.testing import free_port, helper_module, serve
from corepy.testing.command import wait_until

helpers = helper_module(__file__, "proxy_headers")

COREFILE = """\
. {
    bind 127.0.0.1
    proxyproto {
        allow 127.0.0.1/32
        default reject
    }
    whoami
}
"""
HAPROXY = """\
defaults
    mode tcp
    timeout connect 60s
    timeout client 60s
    timeout server 60s
listen one
    bind 127.0.0.1:{one}
    server one 127.0.0.1:{port} send-proxy
listen two
    bind 127.0.0.1:{two}
    server two 127.0.0.1:{port} send-proxy-v2 proxy-v2-options crc32c,unique-id
"""
DNSDIST = """\
setSecurityPollSuffix("")
setLocal("127.0.0.1:{port}")
server = newServer({{address="127.0.0.1:{server}", useProxyProtocol=true, checkInterval=1,
                    maxCheckFailures=1, healthCheckMode="active"}})
addAction(AllRule(), SetProxyProtocolValuesAction({{[1]="value"}}))
"""


@contextmanager
def running(program, *flags):
    """Run a proxy in the foreground until the block ends; its output is not read."""
    process = subprocess.Popen(
        [program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def is_listening(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def client_of(port, kind):
    """The address and the port of a client as *whoami* reports them, and the client's own."""
    with helpers.Proxy(("127.0.0.1", port), kind, bind="127.0.0.77") as client:
        address, service = (str(record.rdata) for record in client.ask().ar)
        return (address, int(service.split()[2])), client.sock.getsockname()


@pytest.mark.parametrize("version", ["one", "two"])
def test_haproxy(tmp_path, version):
    ports = {"one": free_port(), "two": free_port()}
    with serve(COREFILE) as server:
        conf = tmp_path / "haproxy.cfg"
        conf.write_text(HAPROXY.format(**ports, port=server.address[1]))
        with running("/usr/sbin/haproxy", "-db", "-f", str(conf)):
            wait_until(lambda: is_listening(ports[version]))
            stated, own = client_of(ports[version], helpers.STREAM)
    assert stated == own


@pytest.mark.parametrize("kind", [helpers.DATAGRAM, helpers.STREAM], ids=["UDP", "TCP"])
def test_dnsdist(tmp_path, kind):
    """Its health checks have a LOCAL header; without replies it would not pass on queries."""
    port = free_port()
    with serve(COREFILE) as server:
        conf = tmp_path / "dnsdist.conf"
        conf.write_text(DNSDIST.format(port=port, server=server.address[1]))
        with running("/usr/bin/dnsdist", "--supervised", "--disable-syslog", "-C", str(conf)):
            wait_until(lambda: is_listening(port))
            stated, own = client_of(port, kind)
    assert stated == own
