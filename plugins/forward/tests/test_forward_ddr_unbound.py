"""Discovery with unbound as the resolver that designates itself, and the resumption of sessions."""

import contextlib
import socket
import subprocess

import pytest

from corepy.testing import free_port, serve
from corepy.testing.certificates import Authority
from corepy.testing.command import wait_until
from corepy_forward.handler import Forward


@contextlib.contextmanager
def unbound(folder, files):
    """Run unbound; yields its ports for plain DNS and for TLS."""
    plain, secure = free_port(), free_port()
    svcb = f"1 dns.example. alpn=dot port={secure} ipv4hint=127.0.0.1"
    (folder / "unbound.conf").write_text(
        f"""server:
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    interface: 127.0.0.1@{plain}
    interface: 127.0.0.1@{secure}
    tls-port: {secure}
    tls-service-key: "{files.key}"
    tls-service-pem: "{files.certificate}"
    local-zone: "example." static
    local-data: "www.example. A 192.0.2.7"
    local-zone: "resolver.arpa." static
    local-data: "_dns.resolver.arpa. 300 IN SVCB {svcb}"
"""
    )
    arguments = ["unbound", "-d", "-c", folder / "unbound.conf"]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: all(_accepts(port) for port in (plain, secure)))
            yield plain, secure
        finally:
            process.terminate()


def _accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Authority().issue(tmp_path_factory.mktemp("unbound"), "127.0.0.1", "dns.example")


def test_unbound_designates_itself(tmp_path, files):
    with unbound(tmp_path, files) as (plain, secure):
        options = f"ddr\ntls {files.authority}\nread_timeout 1h"
        text = f".:0 {{\nforward . 127.0.0.1:{plain} {{\n{options}\n}}\n}}"
        with serve(text) as server:
            (forward,) = server.plugins(Forward)

            def upstream():
                (found,) = forward.pool.upstreams
                return found

            plainly = repr([("dns", f"127.0.0.1:{plain}", "")]).encode()
            wait_until(lambda: server.call(upstream).target.transport == "tls")
            assert forward.inputs == plainly  # a reload keeps the entries of a cache
            used = server.call(upstream)
            assert (used.address, used.target.is_verified) == (f"127.0.0.1:{secure}", True)
            assert server.ask("www.example").rr

            def reconnect():
                for stream in list(used.streams._streams):
                    used.streams.remove(stream)
                    stream.close()

            server.call(reconnect)
            assert server.ask("www.example").rr
            (stream,) = server.call(lambda: used.streams._streams)
            assert server.call(lambda: stream.secure.session_reused)
