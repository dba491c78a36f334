"""Server blocks with quic:// and https3://: what they need, and certificates that change."""

import asyncio
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from corepy.corefile import CorefileError, parse
from corepy.net.quic.identifiers import Identifiers
from corepy.server.build.builder import build
from corepy.server.listen import transports
from corepy.testing import run_command
from corepy.testing.certificates import Authority
from corepy.testing.helper_module import helper_module
from corepy.testing.quic_peer import QUICPeer

servers = helper_module(__file__, "quic_servers")
ask, rcode, running = servers.ask, servers.rcode, servers.running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return servers.certificate(tmp_path_factory.mktemp("files"))


def mistakes(text):
    with pytest.raises(CorefileError) as caught:
        build(parse(text, schemes=transports.KNOWN))
    return [str(mistake.message) for mistake in caught.value.diagnostics]


@pytest.mark.parametrize("scheme", ["quic", "https3"])
def test_a_block_without_certificate_is_refused(scheme):
    (message,) = mistakes(f"{scheme}://. {{\n whoami\n}}\n")
    assert message.startswith(f"cannot serve {scheme}://.:")
    assert "it has no certificate (add to the server block: tls CERT KEY)" in message


@pytest.mark.parametrize("scheme", ["quic", "https3"])
def test_certificates_of_clients_are_refused(scheme, files):
    tls = f"tls {files.certificate} {files.key} {files.authority} {{\n"
    text = f"{scheme}://. {{\n {tls} client_auth require_and_verify\n}}\n whoami\n}}\n"
    (message,) = mistakes(text)
    assert "clients' certificates cannot be verified over QUIC" in message


@pytest.mark.parametrize("scheme", ["quic", "https3"])
def test_a_missing_library_is_named_with_the_extra(scheme, files, monkeypatch):
    monkeypatch.setattr(transports, "_loaded", {})
    for name in [it for it in sys.modules if it.startswith(("aioquic", "corepy.server.listen."))]:
        if "quic" in name or "https3" in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aioquic", None)
    (message, *_) = mistakes(
        f"{scheme}://. {{\n tls {files.certificate} {files.key}\n whoami\n}}\n"
    )
    assert message == (
        f"{scheme}:// needs aioquic, which is not installed: pip install 'corepy-dns[{scheme}]'"
    )


KEYS = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
}


def write_certificate(folder, key):
    """Write a self-signed certificate of `key`; return a directive."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dns.example")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("dns.example")]), critical=False)
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(builder.sign(key, algorithm).public_bytes(pem))
    plain = serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    return f"tls {folder / 'cert.pem'} {folder / 'key.pem'}"


@pytest.mark.parametrize("kind", KEYS)
def test_kinds_of_keys(kind, tmp_path):
    tls = write_certificate(tmp_path, KEYS[kind]())
    text = f"quic://. {{\n {tls}\n whoami\n}}\n"
    if kind == "p521":
        (message,) = mistakes(text)
        assert message.endswith("certificate or its key: no signatures with the curve secp521r1")
    else:
        build(parse(text, schemes=transports.KNOWN))


def test_a_new_certificate_applies_to_new_connections(tmp_path, monkeypatch):
    with running(tmp_path) as server, server.connect() as old:
        files = Authority().issue(tmp_path, "dns.example")
        source = server.listener._configurations._source
        monkeypatch.setattr(sys.modules[type(source).__module__], "SETTLE", 0.0)
        asyncio.run_coroutine_threadsafe(source.look(), server.server._loop).result()
        with QUICPeer(server.address, files.authority) as new:
            assert rcode(new.connect().ask(ask("new"))) == 0
        used, key = server.listener.demultiplexer._identifiers, server.listener._configurations
        expected = Identifiers(used.owner, key.secret())  # as another process makes them
        assert used.reset_token(b"ID") == expected.reset_token(b"ID")
        assert rcode(old.ask(ask("old"))) == 0


def test_blocks_at_one_address_share_limits(files):
    tls = f"tls {files.certificate} {files.key}"
    text = "".join(
        f"quic://{zone}:1 {{\n{tls}\nquic {{\nmax_streams {number}\n}}\nwhoami\n}}\n"
        for zone, number in (("a.test", 1), ("b.test", 2))
    )
    generation = build(parse(text, schemes=transports.KNOWN))
    (warning,) = generation.warnings
    assert "an earlier server block at this address decides" in warning.message


def test_both_transports_and_plain_dns_at_one_port(files, tmp_path):
    """Plain DNS over UDP and QUIC need the same socket."""
    tls = f"tls {files.certificate} {files.key}"
    text = f"quic://.:5353 dns://.:5353 {{\n{tls}\nwhoami\n}}\n"
    assert mistakes(text) == ["cannot serve dns://.:5353: quic://:5353 uses udp port 5353"]


def test_the_banner_and_status_name_the_transport(files):
    tls = f"bind 127.0.0.1\n tls {files.certificate} {files.key}"
    text = f"quic://.:0 https3://.:0 {{\n {tls}\n whoami\n}}\n"
    with run_command(text) as command:
        assert "quic://.:" in command.output
        assert "https3://.:" in command.output
