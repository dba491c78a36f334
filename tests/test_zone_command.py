"""`corepy zone`: files that are good, bad and doubtful, also by the judgement of Knot DNS."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from corepy.commands import zone_command as command
from corepy.dns.names import from_text
from corepy.zone.zone_check import ZoneCheck

FILES = sorted((Path(__file__).parent / "zones" / "check").glob("*.zone"))
SIGNED = Path(__file__).parent / "zones"

MESSAGES = {
    "bad-address": "A address is not an IPv4 address: '192.0.2.256'",
    "bad-cname-beside-data": "a name with a CNAME record owns other data (A)",
    "bad-delegated-dname": "a delegated name owns a DNAME record",
    "bad-directive": "unknown directive '$BOGUS'",
    "bad-include": "cannot read",
    "bad-label": "label longer than 63 bytes",
    "bad-missing-field": "MX mail exchange is missing",
    "bad-no-ns": "the zone has no NS records",
    "bad-no-soa": "has no SOA record",
    "bad-parenthesis": "the entry has a parenthesis that is not closed",
    "bad-quote": "the entry has a quote that is not closed",
    "bad-ttl": "this is not a TTL: '1x'",
    "bad-two-cnames": "a name owns one CNAME record",
    "bad-two-dnames": "a name owns one DNAME record",
    "bad-two-soas": "a zone has one SOA record",
    "bad-type": "this is not a class: 'BOGUS'",
    "doubtful-ds": "has DS records, but is not delegated",
    "doubtful-lame-server": "NS: nowhere.doubtful-lame-server.test. does not exist",
    "doubtful-mail-is-alias": "MX: alias.doubtful-mail-is-alias.test. is an alias",
    "doubtful-no-glue": "there is no glue for ns.sub.doubtful-no-glue.test.",
    "doubtful-occluded": "x.d.doubtful-occluded.test. A is never answered: it is below a cut",
    "doubtful-outside": "www.example.net. is not in the zone",
    "doubtful-server-is-alias": "NS: alias.doubtful-server-is-alias.test. is an alias",
    "doubtful-soa": "retry (7200s) is not shorter than refresh (3600s)",
    "doubtful-ttls": "has the TTL 61, another record of the set has 60",
    "doubtful-wildcard-ns": "the meaning of a wildcard NS record is not defined",
    "doubtful-twice": "www.doubtful-twice.test. A is in the zone twice",
}
STRICTER = {"bad-two-soas", "bad-no-ns"}
"""Files that Knot DNS serves: without NS records, and with the last of two SOA records."""

LAXER = {"doubtful-occluded"}
"""Files that only Knot DNS refuses: records below a DNAME record, which are never answered."""


def check(path):
    return ZoneCheck(path, from_text(f"{path.stem}.test."), 1_800_000_000)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_judged(path):
    result = check(path)
    kind = path.stem.partition("-")[0]
    messages = [it.message for it in result.problems]
    assert result.is_valid == (kind != "bad")
    assert bool(messages) == (kind != "good")
    assert any(MESSAGES.get(path.stem, "") in it for it in messages) or kind == "good"
    assert all(it.token is not None for it in result.problems) or path.stem == "bad-no-soa"


def test_knot_judges_alike(tmp_path):
    """kzonecheck and `knotc zone-check` are one check; the latter is in the package of knotd."""
    program = shutil.which("knotc", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program is not None, "the Debian package knot is missing"
    zones = "".join(f"  - domain: {it.stem}.test\n    file: {it}\n" for it in FILES)
    (conf := tmp_path / "knot.conf").write_text(
        f"server:\n  rundir: {tmp_path}\ndatabase:\n  storage: {tmp_path}\nzone:\n{zones}"
    )
    done = subprocess.run([program, "-c", conf, "zone-check"], capture_output=True, text=True)
    refused = {
        it.stem for it in FILES if f"[{it.stem}.test.] failed to check zone file" in done.stderr
    }
    assert refused - LAXER == {it.stem for it in FILES if not check(it).is_valid} - STRICTER
    assert refused >= LAXER


def test_doubtful_soa_records():
    (path,) = [it for it in FILES if it.stem == "doubtful-soa"]
    assert [it.hint for it in check(path).problems] == [
        "RFC 1912 section 2.2", "RFC 1912 section 2.2", "RFC 2308 section 5",
        "some secondary servers never transfer it",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "without", "message"),
    [
        (1_900_000_000, "", ""),
        (1_790_000_000, "", "is not valid yet"),
        (3_900_000_000, "", "has expired"),
        (1_900_000_000, "www.example.org.    \t3600\tRRSIG\tA ", "A has no signature"),
        (1_900_000_000, "secure.example.org. \t3600\tRRSIG\tDS ", "DS has no signature"),
    ],
)
def test_signed_zones(tmp_path, now, without, message):
    lines = (SIGNED / "lookup.nsec.zone").read_text().splitlines()
    kept = [line for line in lines if not (without and line.startswith(without))]
    assert (len(kept) < len(lines)) == bool(without)
    (path := tmp_path / "zone").write_text("\n".join(kept) + "\n")
    result = ZoneCheck(path, from_text("example.org."), now)
    found = [it.message for it in result.problems if "RRSIG" in it.message or "sign" in it.message]
    assert result.is_valid
    assert bool(found) == bool(message)
    assert all(it.endswith(message) for it in found)


def test_a_signed_zone_without_denial(tmp_path):
    lines = (SIGNED / "lookup.nsec.zone").read_text().splitlines()
    kept = [line for line in lines if "NSEC" not in line.replace("NSEC3", "")]
    (path := tmp_path / "zone").write_text("\n".join(kept) + "\n")
    result = ZoneCheck(path, from_text("example.org."), 1_900_000_000)
    message = "the zone is signed, but has no NSEC or NSEC3 records to deny names"
    assert message in [it.message for it in result.problems]


def test_nsec3_with_iterations():
    result = ZoneCheck(SIGNED / "lookup.nsec3.zone", from_text("example.org."), 1_900_000_000)
    assert "NSEC3 uses more than 0 iterations" in [it.message for it in result.problems]


@pytest.fixture
def zone_file(tmp_path):
    (path := tmp_path / "db.example.org").write_text(
        "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 600\n@ NS ns1\nns1 A 192.0.2.1\n"
    )
    return path


def test_check_prints_the_result(zone_file, capsys):
    assert command.main(["check", str(zone_file)]) == 0
    valid = f"{zone_file}: the zone example.org. is valid: serial 1, 3 records\n"
    assert capsys.readouterr() == (valid, "")


def test_check_prints_warnings(zone_file, capsys):
    with zone_file.open("a") as file:
        file.write("@ MX 1 nowhere\n")
    assert command.main(["check", str(zone_file), "example.org"]) == 0
    assert capsys.readouterr().err == (
        f"{zone_file}:5:1: warning: example.org. MX: nowhere.example.org. does not exist\n"
        "  5 | @ MX 1 nowhere\n    | ^\n"
    )
    assert command.main(["check", "-strict", str(zone_file)]) == 1
    capsys.readouterr()
    assert command.main(["check", "-json", str(zone_file)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["valid"]
    assert [(it["line"], it["severity"]) for it in result["diagnostics"]] == [(5, "warning")]


def test_check_of_a_bad_file(zone_file, capsys):
    zone_file.write_text("@ A x\n")
    assert command.main(["check", str(zone_file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{zone_file}:1:5: A address is not an IPv4 address: 'x'\n" in err


def test_diff(zone_file, tmp_path, capsys):
    other = tmp_path / "other"
    other.write_text(zone_file.read_text().replace("host 1", "host 2") + "a 5 A 192.0.2.2\n")
    assert command.main(["diff", str(zone_file), str(zone_file)]) == 0
    assert capsys.readouterr().out == ""
    assert command.main(["diff", str(zone_file), str(other)]) == 1
    soa = "example.org.\t60\tIN\tSOA\tns1.example.org. host.example.org. {} 7200 3600 1209600 600\n"
    assert capsys.readouterr().out == (
        f"-{soa.format(1)}+{soa.format(2)}+a.example.org.\t5\tIN\tA\t192.0.2.2\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "{file}.not"], "db.example.org.not: No such file or directory\n"),
        (["check", "{file}", "a..b"], "corepy zone: empty label in name 'a..b'\n"),
        (["diff", "{file}", "{file}.not"], "db.example.org.not: No such file"),
        (["diff", "{file}", "{file}", "example.net"], "has no SOA record"),
    ],
)
def test_failures(zone_file, arguments, message, capsys):
    zone_file.write_text(zone_file.read_text().replace("@", "example.org."))
    filled = [it.format(file=zone_file) for it in arguments]
    assert command.main(filled) == 2
    assert message in capsys.readouterr().err


def test_the_time_of_the_check_is_that_of_the_clock(zone_file, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "ZoneCheck", lambda *it: seen.append(it) or ZoneCheck(*it))
    before = time.time()
    assert command.main(["check", str(zone_file)]) == 0
    assert before <= seen[0][2] <= time.time()
