"""Certificates that clients refuse because of the time, and the status of certificates in files."""

import asyncio
import logging
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.testing import set_up
from corepy.testing.certificates import EXPIRED, Authority
from corepy_tls import certificate_files
from corepy_tls.certificate_files import CertificateFiles, Settings
from corepy_tls.validity import Validity, validity

END = datetime(2051, 2, 3, 4, 5, 6, tzinfo=UTC)
"""A time that a certificate states as GeneralizedTime, in contrast to those before 2050."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path, authority = tmp_path_factory.mktemp("validity"), Authority()
    for label, expires in (("good", END), ("old", EXPIRED)):
        authority.issue(path, "dns.example", label=label, expires=expires)
    return path


def test_the_validity_is_that_of_the_first_certificate(made):
    good, old = ((made / f"{name}.pem").read_bytes() for name in ("good", "old"))
    end = validity(good).end
    assert end == END.timestamp()
    assert validity(b"a comment\n" + old + good).end == EXPIRED.timestamp()
    assert validity(old).problem() == "expired on 2020-01-01 00:00 UTC"
    assert not validity(good).problem()
    assert Validity(end, end).problem() == "is not valid before 2051-02-03 04:05 UTC"


@given(st.data())
def test_damaged_certificates_have_no_validity_or_some(made, data):
    good = bytearray((made / "good.pem").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    found = validity(bytes(good))
    assert found is None or found.problem() is not None


@pytest.mark.parametrize("content", [b"", b"none", b"-----BEGIN CERTIFICATE-----\nMAA=\n"])
def test_other_content_has_no_validity(content):
    assert validity(content) is None


@pytest.mark.parametrize(("label", "expected"), [("good", False), ("old", True)])
def test_a_line_with_an_expired_certificate_gets_a_warning(made, label, expected):
    line = f"tls {made / label}.pem {made / label}.key"
    warnings = set_up(line, "tls://.").warnings
    assert ["expired on 2020-01-01" in found.message for found in warnings] == [True] * expected


def test_the_status_names_what_is_wrong(made, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(certificate_files, "SETTLE", 0.0)
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    certificate, key = tmp_path / "cert.pem", tmp_path / "cert.key"
    certificate.write_bytes((made / "good.pem").read_bytes())
    key.write_bytes((made / "good.key").read_bytes())
    source = CertificateFiles(Settings(certificate, key))
    state = f"certificate {certificate}, valid until 2051-02-03 04:05 UTC"
    assert source.status() == {"state": state, "problems": []}
    key.unlink()
    asyncio.run(source.look())
    (problem,) = source.status()["problems"]
    expected = (
        f"cannot read {key}: No such file or directory; the previous certificate stays in use"
    )
    assert problem == expected
    certificate.write_bytes((made / "old.pem").read_bytes())
    key.write_bytes((made / "old.key").read_bytes())
    asyncio.run(source.look())
    refused = f"the certificate {certificate} expired on 2020-01-01 00:00 UTC"
    assert source.status()["problems"] == [refused]
    source.warn_of_invalidity()
    source.warn_of_invalidity()
    assert [it.getMessage() for it in caplog.records if "expired" in it.getMessage()] == [
        f"{refused}, so clients refuse it"
    ]


def test_a_certificate_that_expires_is_logged(made, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    source = CertificateFiles(Settings(made / "good.pem", made / "good.key"))
    source.warn_of_invalidity()
    assert not caplog.records
    monkeypatch.setattr(time, "time", lambda: END.timestamp() + 1)
    source.warn_of_invalidity()
    assert "expired on 2051-02-03 04:05 UTC, so clients" in caplog.text
