"""Signed zones: foreign verifiers, CoreDNS's tests, and when a zone is signed again."""

import asyncio
import dataclasses
import errno
import logging
import os
import subprocess
import threading
import time
from calendar import timegm
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from corepy.dns import constants as c
from corepy.dns.names import from_text, to_text
from corepy.dns.presentation import rdata_to_text
from corepy.testing import ask, serve
from corepy.testing.command import wait_until
from corepy.testing.failing_once import FailsOnce
from corepy.testing.validators import delv, unbound
from corepy.testing.zone_keys import write_key
from corepy.zone import is_newer, read_zone
from corepy.zone.key_files import read_key
from corepy.zone.rrset import rdatas_of, sets_of, ttl_of, type_of
from corepy_sign import signed_file
from corepy_sign.signed_file import (
    DAY,
    HOUR,
    SignedFile,
    next_serial,
    reason_to_sign,
    serial_of,
)
from corepy_sign.zone_signer import ZoneSigner

SMALL = "$TTL 30M\n@ SOA linode miek.miek.nl. ( 1282630060 4H 1H 7D 4H )\n@ NS linode\n"
ZONE = """\
$TTL 3600
@ SOA ns1 host 7 7200 3600 1209600 300
@ NS ns1
@ MX 10 Mail.Example.ORG.
@ DNSKEY 257 3 13 AAAA
@ CDS 1 13 1 00
ns1 A 192.0.2.1
Mail A 192.0.2.5
mail TXT "b" "a"
mail TXT "a"
www 60 A 192.0.2.2
www 60 AAAA 2001:db8::2
www NSEC x. A
alias CNAME www
a.b.ent A 192.0.2.3
* A 192.0.2.4
*.w TXT "wild"
secure NS ns1.secure
secure DS 1 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
ns1.secure A 192.0.2.6
insecure NS insecure
insecure A 192.0.2.7
sub.insecure NS insecure
d DNAME ent
_s._tcp SRV 1 2 3 WWW
svc HTTPS 1 WWW alpn=h2
loc NAPTR 100 10 "u" "E2U+sip" "" Target
"""
ORIGIN = from_text("example.org.")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return read_key(write_key(tmp_path_factory.mktemp("key"), "example.org"))


def signed_of(folder, keys, text=ZONE):
    (folder / "db").write_text(text)
    return SignedFile(folder / "db", ORIGIN, folder, list(keys))


def types_of(zone, name):
    return sorted(
        c.type_name(type_of(it)) for it in sets_of(zone.nodes[from_text(f"{name}.example.org.")])
    )


def nsec_of(zone, name):
    packed = zone.rrset(from_text(name), c.TYPE_NSEC)
    return rdata_to_text(c.TYPE_NSEC, rdatas_of(packed)[0]), ttl_of(packed)


BIND = ["dnssec-verify", "-z", "-o", "example.org"]
LDNS = ["ldns-verify-zone"]
KNOT = ["kzonecheck", "-d", "on", "-o", "example.org"]
"""It refuses zones with two algorithms, also those that BIND has signed, and missing glue."""


@pytest.mark.parametrize(
    ("text", "algorithms", "verifiers"),
    [
        (ZONE, (13,), (BIND, LDNS, KNOT)),
        (ZONE, (14,), (BIND, LDNS, KNOT)),
        (ZONE, (8, 15), (BIND, LDNS)),
        (SMALL, (13,), (BIND, LDNS)),
    ],
    ids=["P-256", "P-384", "RSA and Ed25519", "apex only"],
)
def test_foreign_verifiers(tmp_path, text, algorithms, verifiers):
    keys = [read_key(write_key(tmp_path, "example.org", algorithm=it)) for it in algorithms]
    file = signed_of(tmp_path, keys, text)
    file.sign()
    for command in verifiers:
        done = subprocess.run(
            [*command, str(file.path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_records(tmp_path, key):
    now = int(time.time())
    file = signed_of(tmp_path, [key])
    zone = file.sign()
    assert now <= zone.serial <= int(time.time())
    assert read_zone(file.path, ORIGIN).zone.records == zone.records
    for rtype, number in (("DNSKEY", 1), ("CDS", 1), ("CDNSKEY", 1)):
        rdatas = rdatas_of(zone.rrset(ORIGIN, c.TYPES[rtype]))
        assert len(rdatas) == number
    assert rdatas_of(zone.rrset(ORIGIN, c.TYPES["CDS"]))[0][3] == 2
    assert types_of(zone, "secure") == ["DS", "NS", "NSEC", "RRSIG", "RRSIG"]
    assert types_of(zone, "insecure") == ["A", "NS", "NSEC", "RRSIG"]
    assert types_of(zone, "ns1.secure") == types_of(zone, "a.b.ent")[:1] == ["A"]
    assert nsec_of(zone, "insecure.example.org.") == ("loc.example.org. NS RRSIG NSEC", 300)
    assert nsec_of(zone, "www.example.org.")[0] == "example.org. A AAAA RRSIG NSEC"
    assert b"\3sub" + from_text("insecure.example.org.") in zone.nodes


def test_apex_only(tmp_path, key):
    """plugin/sign/signer_test.go, TestSignApexZone; the NSEC record's TTL by RFC 9077"""
    zone = signed_of(tmp_path, [key], SMALL).sign()
    text = "example.org. NS SOA RRSIG NSEC DNSKEY CDS CDNSKEY"
    assert nsec_of(zone, "example.org.") == (text, 1800)
    assert ttl_of(zone.rrset(ORIGIN, c.TYPES["DNSKEY"])) == 1800


def test_signatures_have_the_periods_of_coredns(tmp_path, key, monkeypatch):
    now = 1_800_000_000
    monkeypatch.setattr(signed_file, "time_of_day", lambda: now)
    file = signed_of(tmp_path, [key], SMALL)
    zone = file.sign()
    assert file.path.read_text().splitlines()[1].split("\t")[3] == "RRSIG"
    (rdata,) = [r.rdata for r in zone if r.rtype == c.TYPE_RRSIG and r.rdata[:2] == b"\0\6"]
    expiration, inception = (int.from_bytes(rdata[at : at + 4], "big") for at in (8, 12))
    assert 3 * HOUR <= now - inception < 21 * HOUR
    assert 32 * DAY <= expiration - now < 37 * DAY


@pytest.mark.parametrize(
    ("now", "before", "serial"),
    [
        (1_800_000_000, 0, 1_800_000_000),
        (1_800_000_000, 1_799_999_999, 1_800_000_000),
        (1_800_000_000, 1_800_000_000, 1_800_000_001),
        (1_800_000_000, 1_900_000_000, 1_900_000_001),
        (1_800_000_000, 2_026_113_000, 2_026_113_001),
        (1_800_000_000, 1_800_000_000 + 2**31, 1_800_000_001 + 2**31),  # the order is undefined
        (1_800_000_000, 2**32 - 1, 1_800_000_000),  # RFC 1982: newer
        (100, 2**32 - 1, 100),
        (2**32 + 5, 2**32 - 3, 5),
        (2**32, 2**32 - 1, 1),
        (3_000_000_000, 2**32 - 1, 1),
    ],
)
def test_serials(now, before, serial):
    assert next_serial(now, before) == serial
    assert not before or is_newer(serial, before)


def test_each_serial_is_newer_than_that_of_the_signed_file(tmp_path, key, monkeypatch):
    """Also in the same second, by a clock that goes back, and in another process."""
    now = 1_800_000_000

    def sign(file, at):
        monkeypatch.setattr(signed_file, "time_of_day", lambda: at)
        zone = file.sign()
        assert serial_of(file.path) == read_zone(file.path, ORIGIN).zone.serial == zone.serial
        return zone.serial

    file = signed_of(tmp_path, [key], SMALL)
    assert [sign(file, now), sign(file, now), sign(file, now - DAY)] == [now, now + 1, now + 2]
    restarted = SignedFile(file.source, ORIGIN, tmp_path, [key])
    assert sign(restarted, now - DAY) == now + 3
    file.path.unlink()  # *file* serves it still
    assert sign(restarted, now - DAY) == now + 4
    assert sign(restarted, now + DAY) == now + DAY


@pytest.mark.parametrize("text", ["", "no record", "x. 1 IN A 192.0.2.1\n"])
def test_signed_files_without_a_serial(tmp_path, text):
    assert serial_of(tmp_path / "db") == 0
    (tmp_path / "db").write_text(text)
    assert serial_of(tmp_path / "db") == 0


def test_a_fifo_in_place_of_the_signed_file(tmp_path, key):
    """It is replaced; to open it would block the thread."""
    file = signed_of(tmp_path, [key], SMALL)
    os.mkfifo(file.path)
    assert "a FIFO" in file.reason()
    file.sign()
    assert file.path.is_file()


def test_a_zone_of_thousands_of_names(tmp_path, key):
    """The zone without signatures is released in the background, and leaves the signed one whole."""
    quick = dataclasses.replace(key, sign=lambda data: bytes(64))
    file = signed_of(tmp_path, [quick], SMALL + "$GENERATE 1-3000 h$ A 192.0.2.1\n")
    zone = file.sign()
    for thread in threading.enumerate():
        if thread.name == "corepy-zone":
            thread.join()
    assert sum(it.rtype == c.TYPE_NSEC for it in zone) == 3001
    assert read_zone(file.path, ORIGIN).zone.records == zone.records


def at(text):
    return timegm(time.strptime(text, "%Y%m%d%H%M%S"))


@pytest.mark.parametrize(
    ("expiration", "inception", "reason"),
    [
        # plugin/sign/resign_test.go, at 2019-07-18 22:50
        ("20190808191936", "20190717161936", None),
        ("20190808191936", "20190731161936", "in the future"),
        ("20190717191936", "20190717161936", "less than 7 days"),
        ("20190731191936", "20190717161936", None),
        ("20190721191936", "20190717161936", "less than 7 days"),
        # the limits
        ("20190808191936", "20190712225000", None),
        ("20190808191936", "20190712224959", "more than 6 days ago"),
        ("20190725225000", "20190717161936", None),
        ("20190725224959", "20190717161936", "less than 7 days"),
    ],
)
def test_when_to_sign_again(tmp_path, expiration, inception, reason):
    path = tmp_path / "db"
    signature = f"SOA 13 2 1800 {expiration} {inception} 59725 miek.nl. eU6gI1Ok"
    path.write_text(f"miek.nl. 1800 IN RRSIG {signature}\n")
    found = reason_to_sign(path, [59725], at("20190718225000"))
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no signature"),
        (
            "x. 1 IN A 192.0.2.1\n" * 101 + "x. 1 IN RRSIG SOA 13 2 1 0 0 1 x. AAAA\n",
            "no signature",
        ),
        ("x. 1 IN A no address\n", "is not a zone file"),
        ("x. 1 IN RRSIG SOA 13 2 1 99 1 2 x. AAAA\n", "less than 7 days"),
        ("x. 1 IN RRSIG SOA 13 2 1 9999999 1 2 x. AAAA\n", "keys of"),
    ],
)
def test_other_files_are_signed_again(tmp_path, text, reason):
    (tmp_path / "db").write_text(text)
    assert reason in reason_to_sign(tmp_path / "db", [1], 5)


def test_no_signed_file(tmp_path):
    assert "cannot read" in reason_to_sign(tmp_path / "db", [1], 5)


# -- in a server


def logged(caplog, level):
    return [it.getMessage() for it in caplog.records if it.levelno == level and "sign" in it.name]


def run(*files, times=1):
    async def refresh():
        for _ in range(times):
            for file in files:
                await file.refresh()

    asyncio.run(refresh())


def test_changes_of_the_zone_file_and_of_keys(tmp_path, key, caplog):
    caplog.set_level(logging.INFO)
    file = signed_of(tmp_path, [key], SMALL)
    run(file, times=3)
    assert len(logged(caplog, logging.INFO)) == 2
    (tmp_path / "db").write_text(SMALL + "www A 192.0.2.1\n")
    run(file, times=2)
    assert "has changed" in logged(caplog, logging.INFO)[2]
    other = SignedFile(file.source, ORIGIN, tmp_path, [key])
    assert other.reason() is None
    run(other)
    assert "skipping zone example.org." in logged(caplog, logging.INFO)[-1]
    other.keys = [read_key(write_key(tmp_path, "example.org", "other"))]
    assert "keys of" in other.reason()


def test_a_zone_file_that_is_newer_at_the_start(tmp_path, key, monkeypatch):
    file = signed_of(tmp_path, [key], SMALL)
    file.sign()
    written = file.path.stat().st_mtime
    os.utime(file.source, (written + 1, written + 1))
    again = SignedFile(file.source, ORIGIN, tmp_path, [key])
    monkeypatch.setattr(signed_file, "time_of_day", lambda: int(written) + 5)
    assert "is newer than" in again.reason()
    os.utime(file.source, (written + DAY, written + DAY))  # by a wrong clock: not each time anew
    assert again.reason() is None


def test_a_zone_file_of_this_second(tmp_path, key, monkeypatch):
    file = signed_of(tmp_path, [key], SMALL)
    file.sign()
    now = int(file.path.stat().st_mtime) + 5
    os.utime(file.source, (now + 0.5, now + 0.5))
    monkeypatch.setattr(signed_file, "time_of_day", lambda: now)
    assert "is newer than" in SignedFile(file.source, ORIGIN, tmp_path, [key]).reason()


def test_two_generations_sign_at_the_same_time(tmp_path, key, monkeypatch):
    """The later one's file is complete and stays, whichever ends first."""
    old, new = (signed_of(tmp_path, [key], SMALL) for _ in range(2))
    signer = ZoneSigner([old])
    context: Any = None
    lines = signed_file.zone_lines

    def meanwhile(zone):
        monkeypatch.setattr(signed_file, "zone_lines", lines)
        first, *rest = lines(zone)
        yield first
        signer.shutdown(context)
        new.sign()
        yield from rest

    monkeypatch.setattr(signed_file, "zone_lines", meanwhile)
    monkeypatch.setattr(signed_file, "time_of_day", iter(range(10**9, 2 * 10**9)).__next__)
    old.sign()
    assert read_zone(new.path, ORIGIN).zone.serial == new._serial
    assert {it.name for it in tmp_path.iterdir()} == {"db", "db.example.org.signed"}


def test_a_zone_that_cannot_be_signed(tmp_path, key, caplog, monkeypatch):
    """It is logged, tried again later, and changes nothing for other zones."""
    file = signed_of(tmp_path, [key], SMALL)
    file.sign()
    before = file.path.read_bytes()
    (tmp_path / "db").write_text("@ NS ns\n")
    missing = SignedFile(tmp_path / "missing", from_text("a.org."), tmp_path, [key])
    (tmp_path / "other").write_text(SMALL)
    good = SignedFile(tmp_path / "other", from_text("b.org."), tmp_path, [key])
    nowhere = SignedFile(tmp_path / "other", from_text("c.org."), tmp_path / "none", [key])
    run(file, missing, good, nowhere, times=3)
    errors = logged(caplog, logging.ERROR)
    assert [it.split(":")[0] for it in errors] == [
        f"cannot sign zone {it}" for it in ("example.org.", "a.org.", "c.org.")
    ]
    assert file.path.read_bytes() == before
    assert good.path.exists()
    assert sorted(it.name for it in tmp_path.iterdir()) == [
        "db", "db.b.org.signed", "db.example.org.signed", "other",
    ]  # fmt: skip
    later = int(time.time()) + signed_file.RETRY
    monkeypatch.setattr(signed_file, "time_of_day", lambda: later)
    run(missing)
    assert len(logged(caplog, logging.ERROR)) == 4


def test_a_full_disk(tmp_path, key, monkeypatch):
    """The old file stays, and no part of the new one."""
    file = signed_of(tmp_path, [key], SMALL)
    file.sign()
    before = file.path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "db").write_text(SMALL + "www A 192.0.2.1\n")
    run(file)
    assert file.problem == f"{file.path}: No space left on device"
    assert file.path.read_bytes() == before
    assert {it.name for it in tmp_path.iterdir()} == {"db", "db.example.org.signed"}


def test_a_folder_that_does_not_exist(tmp_path, key):
    file = signed_of(tmp_path, [key], SMALL)
    file.folder = tmp_path / "out"
    run(file)
    assert file.problem == f"{tmp_path}/out: No such file or directory"
    file.folder.mkdir()
    file.path.mkdir()
    with pytest.raises(OSError, match="Is a directory") as caught:
        file.sign()
    assert caught.value.filename == str(file.path)


QUESTIONS = [
    "example.org DNSKEY", "example.org CDS", "example.org CDNSKEY", "example.org HINFO", "www.example.org A",
    "WWW.Example.ORG AAAA", "www.example.org TXT", "www.example.org NSEC", "alias.example.org A",
    "ent.example.org A", "b.ent.example.org TXT", "x.b.ent.example.org A", "q.example.org A",
    "q.example.org TXT", "q.w.example.org TXT", "q.w.example.org A", "*.w.example.org TXT",
    "a.b.q.w.example.org TXT", "a.b.d.example.org A", "zz.d.example.org A", "secure.example.org DS",
    "insecure.example.org DS", "www.example.org DS", "_s._tcp.example.org SRV", "svc.example.org HTTPS",
    "loc.example.org NAPTR", "x.ns1.example.org A", "q.example.org DS",
]  # fmt: skip


def test_file_serves_the_signed_zone(tmp_path):
    """unbound validates all replies, with aggressive use of NSEC, and delv some."""
    (tmp_path / "db").write_text(ZONE)
    write_key(tmp_path, "example.org", "Kexample.org.+013+00001")
    with serve(
        f"example.org:0 {{\nbind 127.0.0.1\nfile {tmp_path}/db.example.org.signed\n"
        f"sign {tmp_path}/db {{\nkey directory {tmp_path}\ndirectory {tmp_path}\n}}\n}}\n"
    ) as server:
        wait_until(lambda: server.ask("www.example.org.").header.rcode == 0)
        reply = server.ask("www.example.org.", "A", do=True, edns=4096)
        assert {it.rtype for it in reply.rr} == {c.TYPE_A, c.TYPE_RRSIG}
        assert to_text(ORIGIN) in {
            str(it.rdata.name) for it in reply.rr if it.rtype == c.TYPE_RRSIG
        }
        record = (tmp_path / "Kexample.org.+013+00001.key").read_text().splitlines()[-1]
        with unbound(tmp_path, server.address, record) as validator:
            for question in QUESTIONS * 2:
                reply = ask(validator, *question.split(), do=True, edns=4096, timeout=30)
                assert reply.header.rcode in (0, 3), (question, (tmp_path / "log").read_text())
                assert reply.header.ad, (question, (tmp_path / "log").read_text())
        for question in QUESTIONS[::5]:
            assert "fully validated" in delv(tmp_path, server.address, record, *question.split())


def test_a_check_that_fails_is_not_the_last_one(monkeypatch):
    monkeypatch.setattr("corepy_sign.zone_signer.INTERVAL", 0)

    async def main():
        check, context = FailsOnce(), Mock()
        file: Any = SimpleNamespace(origin=b"\0", refresh=check)
        signer = ZoneSigner([file])
        signer.serving(context)
        await check.repeated()
        signer.shutdown(context)

    asyncio.run(main())
