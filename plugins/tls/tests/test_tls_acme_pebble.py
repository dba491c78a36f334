"""Certificates from pebble, the test CA of Let's Encrypt, which asks this server for the proofs."""

import json
import os
import socket
import ssl
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from corepy.net.frames import frame
from corepy.testing import ask, free_port, query, serve
from corepy.testing.certificates import Authority
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until
from corepy_tls import acme_certificate, challenges

NAMES = ("dns.example", "*.dns.example")
CHALLENGE = "_acme-challenge.dns.example."


class CA(NamedTuple):
    """A running CA."""

    directory: str
    authority: Path
    """The file with the certificate of the authority for the connection to the CA."""

    roots: str
    """The URL of its root certificate, which is a new one at each start."""


@contextmanager
def pebble(folder, dns_port):
    """Run a CA that asks at `dns_port`, and refuses some of the nonces."""
    files = Authority().issue(folder, "127.0.0.1", label="pebble")
    port, management = free_port(), free_port()
    config = folder / "pebble.json"
    settings = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(files.certificate),
        "privateKey": str(files.key),
        "httpPort": 5002,
        "tlsPort": 5001,
    }
    config.write_text(json.dumps({"pebble": settings}))
    command = ["/usr/bin/pebble", "-strict", "-config", str(config)]
    command += ["-dnsserver", f"127.0.0.1:{dns_port}"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "15"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_listening(port) and is_listening(management))
        roots = f"https://127.0.0.1:{management}/roots/0"
        yield CA(f"https://127.0.0.1:{port}/dir", files.authority, roots)
    finally:
        process.terminate()
        process.wait(60)


def is_listening(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def dns_port():
    return free_port()


@pytest.fixture(scope="module")
def ca(tmp_path_factory, dns_port):
    with pebble(tmp_path_factory.mktemp("pebble"), dns_port) as it:
        yield it


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(acme_certificate, "INTERVAL", 0.01)


@pytest.fixture
def trusting(ca):
    """Return a client's context that trusts the certificates of the CA."""
    with urlopen(ca.roots, context=ssl.create_default_context(cafile=ca.authority)) as page:
        context = ssl.create_default_context(cadata=page.read().decode())
    context.set_alpn_protocols(["dot"])
    return context


def corefile(dns_port, ca, storage):
    return f"""\
.:{dns_port} {{
    bind 127.0.0.1
    acl {{
        block type TXT
    }}
    cache
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
tls://.:0 {{
    bind 127.0.0.1
    tls {{
        acme {" ".join(NAMES)}
        email hostmaster@dns.example
        ca {ca.directory}
        storage {storage}
        ca_root {ca.authority}
    }}
    whoami
}}
"""


@contextmanager
def connected(server, context, name):
    with socket.create_connection(server.addresses[1], 60) as plain:
        if name is None:
            context.check_hostname = False
        with context.wrap_socket(plain, server_hostname=name) as sock:
            yield sock


def serial(server, context, name="dns.example"):
    """The serial number of the certificate that a client gets, which also asks a question."""
    with connected(server, context, name) as sock:
        return answered(sock)


def answered(sock):
    sock.sendall(frame(query("www.example.")))
    assert read_frame(sock)[3] & 15 == 0
    return sock.getpeercert()["serialNumber"]


def state_of(server):
    (status,) = {id(it): it.status() for it in sources(server)}.values()
    return status["state"], status["problems"]


def sources(server):
    found = server.server.generation.plugins.get_plugins()
    return [it for it in found if type(it).__name__ == "AcmeSource"]


def test_a_certificate_is_obtained_kept_and_renewed(
    ca, dns_port, trusting, tmp_path, monkeypatch, caplog
):
    storage = tmp_path / "storage"
    text = corefile(dns_port, ca, storage)
    with serve(text) as server:
        wait_until(lambda: state_of(server) == ("valid", []))
        first = serial(server, trusting)
        assert serial(server, trusting, "any.dns.example") == first
        assert serial(server, trusting, None) == first
        trusting.check_hostname = False
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            serial(server, trusting, "other.example")
        reply = ask(server.addresses[0], CHALLENGE, "TXT")
        assert reply.header.rcode == 5  # acl: the challenge is removed
    for path in (storage, *storage.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    account = next((storage / "accounts").iterdir()).read_bytes()
    monkeypatch.setattr(acme_certificate, "RENEW_AT", -1.0)
    with serve(text) as server:
        (source,) = sources(server)
        before = source.fingerprint
        with connected(server, trusting, "dns.example") as sock:
            assert answered(sock) == first  # there was an attempt within the last hour
            next((storage / "attempts").iterdir()).unlink()
            wait_until(lambda: source.fingerprint != before)
            assert answered(sock) == first  # the open connection continues
        assert serial(server, trusting) != first
    assert next((storage / "accounts").iterdir()).read_bytes() == account
    assert not [it for it in caplog.records if it.levelname == "ERROR"]


def test_a_ca_that_gets_no_proof(ca, dns_port, tmp_path, monkeypatch, caplog):
    """The reason is logged, handshakes are refused, and the next attempt waits for its time."""
    monkeypatch.setattr(acme_certificate, "FIRST_DELAY", 80000.0)
    monkeypatch.setattr(challenges, "read_challenges", lambda storage, name: [])
    storage = tmp_path / "storage"
    with serve(corefile(dns_port, ca, storage)) as server:
        wait_until(lambda: state_of(server)[1])
        state, (problem,) = state_of(server)
        assert (state, "invalid: " in problem) == ("missing", True)
        context = ssl.create_default_context()
        with pytest.raises(OSError, match=r"reset|EOF"):
            serial(server, context)
    attempts = json.loads(next((storage / "attempts").iterdir()).read_text())
    assert attempts["failures"] == 1
    lines = "\n".join(it.getMessage() for it in caplog.records)
    assert f"no certificate for *.dns.example, dns.example from {ca.directory}: invalid" in lines
    assert "a TLS handshake failed: there is no certificate for *.dns.example" in lines
    caplog.clear()
    with serve(corefile(dns_port, ca, storage)) as server:  # a restart is no reason for an attempt
        (source,) = sources(server)
        assert source._certificate.seconds_until_due() > 70000
