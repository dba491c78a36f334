"""Certificate files that change while the server runs."""

import asyncio
import logging
import os
import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.plugin import StartupError
from corepy.testing import until
from corepy.testing.certificates import Authority
from corepy.testing.failing_once import FailsOnce
from corepy_tls import certificate_files
from corepy_tls.certificate_files import CertificateFiles, Settings
from corepy_tls.contexts import ClientAuth

CONTEXT: Any = SimpleNamespace()


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def source(authority, tmp_path, monkeypatch):
    """A source of certificates whose files are as old as they need to be."""
    monkeypatch.setattr(certificate_files, "SETTLE", 0.0)
    files = authority.issue(tmp_path, "dns.example")
    return CertificateFiles(Settings(*files, client_auth=ClientAuth.REQUIRED))


@pytest.fixture
def logged(caplog, monkeypatch):
    """The messages of the plugin."""
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def look(source):
    """Check the files once; return whether the certificate is another one."""
    before = source.fingerprint
    asyncio.run(source.look())
    return source.fingerprint != before


def test_unchanged_files_are_left_alone(source, logged):
    assert not look(source)
    assert not logged()


def test_a_new_certificate_is_used(source, authority, tmp_path, logged):
    before = source.certificate()
    authority.issue(tmp_path, "dns.example")
    assert look(source)
    after = source.certificate()
    assert after.chain == (tmp_path / "server.pem").read_bytes() != before.chain
    assert after.key == (tmp_path / "server.key").read_bytes()
    assert not look(source)
    assert logged() == [f"loaded the certificate {tmp_path / 'server.pem'}"]


def test_files_that_are_written_again_keep_their_fingerprint(source, tmp_path, logged):
    """So clients can resume their sessions."""
    for path in source.settings.paths:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert not look(source)
    assert not logged()


@pytest.mark.parametrize("name", ["server.pem", "server.key", "server.ca.pem"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other", "folder"])
def test_damaged_files_keep_the_old_certificate(source, name, damage, tmp_path, logged):
    path, before = tmp_path / name, source.certificate()
    good = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        path.write_bytes(Authority().issue(tmp_path, label="other").key.read_bytes())
    elif damage == "folder":
        path.mkdir()
    for _ in range(2):
        assert not look(source)
    assert source.certificate() == before
    assert source.create_context().cert_store_stats()["x509_ca"] == 1
    (message,) = logged()
    assert message.endswith("; the previous certificate stays in use")
    assert str(path) in message
    if damage == "folder":
        path.rmdir()
    path.write_bytes(good)
    assert not look(source)
    assert len(logged()) == 1


def test_a_certificate_without_its_new_key_waits_for_it(source, authority, tmp_path, logged):
    """A program that renews certificates replaces one file after the other."""
    key = (tmp_path / "server.key").read_bytes()
    authority.issue(tmp_path, "dns.example")
    new = (tmp_path / "server.key").read_bytes()
    (tmp_path / "server.key").write_bytes(key)
    assert not look(source)
    (tmp_path / "server.key").write_bytes(new)
    assert look(source)
    assert source.certificate().key == new
    assert "key values mismatch" in logged()[0]


def test_files_that_still_change_are_not_read(source, authority, tmp_path, monkeypatch, logged):
    async def changing(_seconds):
        (tmp_path / "server.key").write_bytes(b"half")

    authority.issue(tmp_path, "dns.example")
    monkeypatch.setattr(certificate_files.asyncio, "sleep", changing)
    assert not look(source)
    assert not logged()


def test_a_link_to_another_folder_is_followed(authority, tmp_path, monkeypatch):
    """The volume of a Kubernetes secret changes all its files at once by such a link."""
    monkeypatch.setattr(certificate_files, "SETTLE", 0.0)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        authority.issue(tmp_path / name, "dns.example")
    (tmp_path / "data").symlink_to("one")
    data = tmp_path / "data"
    source = CertificateFiles(Settings(data / "server.pem", data / "server.key"))
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(data)
    assert look(source)
    assert source.certificate().chain == (tmp_path / "two/server.pem").read_bytes()


def test_the_files_are_watched_until_the_shutdown(source, authority, tmp_path, monkeypatch):
    monkeypatch.setattr(certificate_files, "INTERVAL", 0.001)
    before = source.fingerprint

    async def run():
        source.serving(CONTEXT)
        authority.issue(tmp_path, "dns.example")
        await until(lambda: source.fingerprint != before)
        source.shutdown(CONTEXT)
        await asyncio.sleep(0)
        assert source._task.cancelled()

    asyncio.run(run())


def test_a_source_that_was_never_started_shuts_down(source):
    source.shutdown(CONTEXT)


def test_a_system_without_proc(authority, tmp_path, monkeypatch):
    files = authority.issue(tmp_path, "dns.example")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr("corepy_tls.contexts.os.path.exists", lambda path: False)
    source = CertificateFiles(Settings(*files))
    assert source.certificate().chain == files.certificate.read_bytes()
    assert not list(folder.iterdir())


def test_an_encrypted_key_is_refused_without_asking_for_a_password(authority, tmp_path):
    from cryptography.hazmat.primitives import serialization as forms

    files = authority.issue(tmp_path, "dns.example")
    key = forms.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            forms.Encoding.PEM,
            forms.PrivateFormat.PKCS8,
            forms.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match="the key is encrypted"):
        CertificateFiles(Settings(files.certificate, files.key))


def test_the_key_log_is_for_its_owner_only(authority, tmp_path, logged):
    path = tmp_path / "keys.log"
    files = authority.issue(tmp_path, "dns.example")
    source = CertificateFiles(Settings(files.certificate, files.key, key_log=path))
    source.before_listen(CONTEXT)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert logged() == [f"writing the keys of all TLS connections to {path}"]
    client = authority.client_context()
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    server = source.create_context().wrap_bio(pipes[0], pipes[1], server_side=True)
    peer = client.wrap_bio(pipes[1], pipes[0], server_hostname="dns.example")
    for side in (peer, server, peer, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert "SERVER_TRAFFIC_SECRET_0" in path.read_text()


def test_a_key_log_that_cannot_be_written_refuses_the_start(authority, tmp_path):
    files = authority.issue(tmp_path, "dns.example")
    path = tmp_path / "missing" / "keys.log"
    source = CertificateFiles(Settings(files.certificate, files.key, key_log=path))
    with pytest.raises(StartupError, match=r"^cannot write the key log"):
        source.before_listen(CONTEXT)


def test_a_check_that_fails_is_not_the_last_one(source, monkeypatch):
    monkeypatch.setattr("corepy_tls.certificate_files.INTERVAL", 0)

    async def main():
        look = FailsOnce()
        monkeypatch.setattr(source, "look", look)
        source.serving(None)
        await look.repeated()
        source.shutdown(None)

    asyncio.run(main())
