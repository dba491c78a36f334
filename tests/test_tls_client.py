"""TLS contexts of clients from the files of an option `tls`."""

import ssl

import pytest

from corepy.plugin.tls_client import TLSFiles, client_context
from corepy.testing.tls import CERTIFICATE, ENCRYPTED_KEY, KEY


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cert.pem").write_text(CERTIFICATE)
    (tmp_path / "key.pem").write_text(KEY)
    (tmp_path / "encrypted.pem").write_text(ENCRYPTED_KEY)
    return tmp_path


def test_a_context_verifies_and_negotiates(folder):
    cert = folder / "cert.pem"
    for files in (TLSFiles(), TLSFiles(ca=cert), TLSFiles(cert, folder / "key.pem", cert)):
        for protocols in ([], ["dot"]):
            context = client_context(files, protocols)
            assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["none.pem"], "none.pem"),
        (["key.pem"], "no certificate in PEM form in .*key.pem: "),
        (["cert.pem", "cert.pem"], "could not load TLS cert .*cert.pem with key .*cert.pem: "),
        (["cert.pem", "encrypted.pem"], "the key .*encrypted.pem is encrypted; write it without"),
    ],
    ids=["missing", "no CA", "no key", "encrypted"],
)
def test_files_that_cannot_be_used(folder, names, reason):
    """OpenSSL would ask for the password of an encrypted key at the terminal."""
    files = TLSFiles.from_paths([folder / name for name in names])
    with pytest.raises((OSError, ValueError), match=reason):
        client_context(files, [])
