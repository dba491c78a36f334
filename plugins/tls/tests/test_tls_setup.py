"""The lines that *tls* accepts and refuses; CoreDNS's cases (plugin/tls/tls_test.go) among them."""

import os
import ssl

import pytest

from corepy.plugin import TLSSetting
from corepy.testing import refusal, set_up
from corepy.testing.certificates import Authority


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls")
    issued = Authority().issue(path, "dns.example", label="cert")
    issued.authority.rename(path / "ca.pem")
    other = Authority().issue(path, "other.example", label="other")
    (path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    (path / "empty.pem").write_text("")
    (path / "der.pem").write_bytes(ssl.PEM_cert_to_DER_cert(other.authority.read_text()))
    os.mkfifo(path / "fifo.pem")
    return path


@pytest.fixture(autouse=True)
def folder(made, monkeypatch):
    """The folder with the files of the cases, which is the working directory."""
    monkeypatch.chdir(made)
    return made


def source_of(line):
    return set_up(line, "tls://.").config.get(TLSSetting).source


GOOD = "tls cert.pem cert.key"


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        (GOOD, ssl.CERT_NONE),
        (f"{GOOD} ca.pem", ssl.CERT_NONE),
        (f"{GOOD} ca.pem {{\nclient_auth nocert\n}}", ssl.CERT_NONE),
        (f"{GOOD} ca.pem {{\nclient_auth verify_if_given\n}}", ssl.CERT_OPTIONAL),
        (f"{GOOD} ca.pem {{\nclient_auth require_and_verify\n}}", ssl.CERT_REQUIRED),
        (f"{GOOD} {{\nclient_auth require_and_verify\n}}", ssl.CERT_REQUIRED),
        (f"{GOOD} ca.pem {{\nkeylog tls.log\n}}", ssl.CERT_NONE),
        ("tls other.pem other.key\n" + GOOD, ssl.CERT_NONE),
    ],
)
def test_a_line_sets_the_certificate_and_the_demands_on_clients(line, mode, folder):
    source = source_of(line)
    context = source.create_context()
    assert context.verify_mode is mode
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert source.certificate().chain == (folder / "cert.pem").read_bytes()
    assert source.certificate().verifies_clients == (mode is not ssl.CERT_NONE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tls", "ACME requires at least one domain"),
        ("tls cert.pem", "wrong argument count or unexpected line ending after 'cert.pem'"),
        (f"{GOOD} ca.pem more", "wrong argument count or unexpected line ending after 'more'"),
        (f"{GOOD} ca.pem {{\nunknown\n}}", "unknown option 'unknown'"),
        (f"{GOOD} {{\nacme dns.example\n}}", "acme cannot be combined with CERT and KEY"),
        (f"{GOOD} ca.pem {{\nclient_auth\n}}", "unexpected line ending after 'client_auth'"),
        (f"{GOOD} ca.pem {{\nclient_auth none bogus\n}}", "unexpected line ending after 'bogus'"),
        (f"{GOOD} ca.pem {{\nclient_auth bogus\n}}", "unknown authentication type 'bogus'"),
        # CoreDNS accepts these two.
        (f"{GOOD} ca.pem {{\nclient_auth request\n}}", "client_auth request is not supported"),
        (f"{GOOD} ca.pem {{\nclient_auth require\n}}", "client_auth require is not supported"),
        (f"{GOOD} ca.pem {{\nkeylog\n}}", "unexpected line ending after 'keylog'"),
        (f"{GOOD} ca.pem {{\nkeylog missing/tls.log\n}}", "cannot write the key log"),
        (f"{GOOD} ca.pem {{\nkeylog .\n}}", "cannot write the key log"),
        ("tls missing.pem cert.key", "missing.pem: No such file or directory"),
        ("tls cert.pem missing.key", "missing.key: No such file or directory"),
        (f"{GOOD} missing.pem", "missing.pem: No such file or directory"),
        ("tls fifo.pem cert.key", "fifo.pem: not a regular file but a FIFO"),
        ("tls . cert.key", "Is a directory"),
        ("tls cert.pem other.key", "key values mismatch"),
        ("tls broken.pem cert.key", "cannot use"),
        ("tls empty.pem cert.key", "empty.pem has no certificate in PEM form"),
        ("tls der.pem cert.key", "der.pem has no certificate in PEM form"),
        ("tls cert.key cert.pem", "cert.key has no certificate in PEM form"),
        ("tls cert.pem cert.pem", "cert.pem has no private key in PEM form"),
        (f"{GOOD} empty.pem", "no usable certificate in"),
        (f"{GOOD} broken.pem", "no usable certificate in"),
    ],
)
def test_a_line_is_refused(line, message):
    assert message in refusal(line, "tls://.").message


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("tls missing.pem cert.key ca.pem", 5),
        ("tls cert.pem missing.key ca.pem", 14),
        ("tls cert.pem other.pem ca.pem", 14),
        ("tls cert.pem cert.key missing.pem", 23),
        ("tls cert.pem cert.key other.key", 23),
    ],
)
def test_an_unusable_file_is_reported_at_its_argument(line, column):
    assert refusal(line, "tls://.").token.column == column


@pytest.mark.parametrize(
    ("line", "keys", "warning"),
    [
        (GOOD, "tls://.", None),
        (GOOD, "dns://. tls://.", None),
        (GOOD, ".", "tls has no effect"),
        (f"{GOOD}\n{GOOD}", "tls://.", "replaces an earlier one"),
        (f"{GOOD} ca.pem", "tls://.", "clients are not asked for certificates"),
        (f"{GOOD} ca.pem {{\nclient_auth verify_if_given\n}}", "tls://.", None),
    ],
)
def test_a_line_that_is_probably_a_mistake_gets_a_warning(line, keys, warning):
    warnings = set_up(line, keys).warnings
    assert [warning in found.message for found in warnings] == ([True] if warning else [])


@pytest.mark.parametrize(
    ("line", "other", "equal"),
    [
        (GOOD, GOOD, True),
        (GOOD, f"{GOOD} ca.pem", False),
        (GOOD, "tls other.pem other.key", False),
        (GOOD, f"{GOOD} {{\nkeylog tls.log\n}}", False),
        (f"{GOOD} {{\nclient_auth nocert\n}}", GOOD, True),
    ],
)
def test_blocks_can_share_a_listener_if_their_lines_mean_the_same(line, other, equal):
    first, second = source_of(line), source_of(other)
    assert (first == second) == equal
    assert (first.fingerprint == second.fingerprint) == equal
    assert (hash(first) == hash(second)) == equal
