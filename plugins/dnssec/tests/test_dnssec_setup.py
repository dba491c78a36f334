"""The *dnssec* directive: what it takes and what it refuses (plugin/dnssec/setup_test.go), and key files."""

import base64
import contextlib
import subprocess

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy.testing import refusal, set_up
from corepy.testing.zone_keys import write_key
from corepy.zone import signing_keys
from corepy.zone.key_files import (
    KeyFileError,
    base_of,
    read_key,
    read_private,
    read_public,
    timing_problem,
)
from corepy.zone.signing_keys import BadKey, signing_key
from corepy_dnssec.denial import BlackLies, WhiteLies
from corepy_dnssec.dnssec import DNSSEC


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with a ZSK and a KSK for cluster.local, as in CoreDNS's test."""
    folder = tmp_path_factory.mktemp("keys")
    write_key(folder, "cluster.local.", "Kcluster.local", flags=256)
    write_key(folder, "cluster.local.", "ksk_Kcluster.local", flags=257)
    return folder


def accepted(text, keys, zone="."):
    controller = set_up(text.replace("KEYS", str(keys)), zone)
    (handler,) = controller.handlers
    assert isinstance(handler, DNSSEC)
    return handler, [it.message for it in controller.warnings]


@pytest.mark.parametrize(
    ("text", "zones", "number", "is_split", "capacity"),
    [
        ("dnssec", ["."], 0, False, 10000),
        ("dnssec example.org", ["example.org."], 0, False, 10000),
        ("dnssec 10.0.0.0/8", ["10.in-addr.arpa."], 0, False, 10000),
        ("dnssec example.org {\ncache_capacity 100\n}", ["example.org."], 0, False, 100),
        ("dnssec cluster.local {\nkey file KEYS/Kcluster.local\n}", ["cluster.local."], 1, False, 10000),
        ("dnssec example.org cluster.local {\nkey file KEYS/Kcluster.local\n}",
         ["example.org.", "cluster.local."], 1, False, 10000),
        ("dnssec cluster.local {\nkey file KEYS/Kcluster.local\nkey file KEYS/ksk_Kcluster.local\n}",
         ["cluster.local."], 2, True, 10000),
        # more than CoreDNS's cases
        ("dnssec cluster.local {\nkey file KEYS/Kcluster.local.key KEYS/ksk_Kcluster.local.private\n}",
         ["cluster.local."], 2, True, 10000),
        ("dnssec a.cluster.local {\nkey file KEYS/Kcluster.local KEYS/Kcluster.local\n}",
         ["a.cluster.local."], 1, False, 10000),
        ("dnssec cluster.local {\nkey file KEYS/ksk_Kcluster.local\ncache_capacity -1\n}",
         ["cluster.local."], 1, False, 0),
    ],
)  # fmt: skip
def test_accepted(keys, text, zones, number, is_split, capacity):
    handler, warnings = accepted(text, keys)
    assert list(handler.zones.zones) == zones
    assert len(handler.signer.keys) == number
    assert handler.signer.is_split == is_split
    assert handler.signer.capacity == capacity
    assert isinstance(handler.denial, BlackLies)
    assert [it for it in warnings if "without a key" in it] == (
        [] if number else ["dnssec without a key signs nothing"]
    )


def test_the_zones_are_those_of_the_block_by_default(keys):
    handler, _ = accepted("dnssec {\nkey file KEYS/Kcluster.local\n}", keys, "cluster.local")
    assert handler.zones.zones == ("cluster.local.",)


def test_denial(keys):
    handler, _ = accepted("dnssec {\ndenial nsec3\n}", keys)
    assert isinstance(handler.denial, WhiteLies)


def zone_of(size):
    """A name with a wire form of some bytes, at least 195."""
    return ".".join(["a" * 63] * 3 + ["b" * (size - 194)])


def test_the_longest_zone(keys):
    """The owner of an NSEC3 record has 255 bytes at most."""
    accepted(f"dnssec {zone_of(222)} {{\ndenial nsec3\n}}", keys)
    accepted(f"dnssec {zone_of(255)} {{\ndenial nsec\n}}", keys)
    text = f"dnssec {zone_of(223)} {{\ndenial nsec3\n}}"
    assert "is too long for denial nsec3" in refusal(text).message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dnssec example.org {\nkey file KEYS/Kcluster.local\n}", "can not sign any of the zones"),
        ("dnssec example.org {\nkey\n}", "argument"),
        ("dnssec example.org {\nkey file\n}", "argument"),
        ("dnssec\ndnssec", "only be used once"),
        # more than CoreDNS's cases
        ("dnssec {\nkey aws_secretsmanager Kexample.org.+013+45330\n}", "AWS Secrets Manager"),
        ("dnssec {\nkey vault x\n}", "unknown source of keys 'vault'"),
        ("dnssec {\nkey file KEYS/missing\n}", "missing.key: No such file"),
        ("dnssec {\nkey file /\n}", "/: this is a folder"),
        (f"dnssec {{\nkey file {'K' * 300}\n}}", "File name too long"),
        ("dnssec {\ncache_capacity\n}", "argument"),
        ("dnssec {\ncache_capacity many\n}", "not a whole number"),
        ("dnssec {\ndenial maybe\n}", "unknown denial 'maybe'"),
        ("dnssec {\ndenial\n}", "argument"),
        ("dnssec {\nkeys file x\n}", "unknown option 'keys'"),
    ],
)
def test_refused(keys, text, message):
    assert message in refusal(text.replace("KEYS", str(keys))).message


def test_a_key_for_no_valid_zone(keys):
    found = refusal(f"dnssec a..b {{\nkey file {keys}/Kcluster.local\n}}")
    assert found.hint == "no zone of dnssec is valid"


def test_key_files_are_watched(keys):
    controller = set_up(f"dnssec cluster.local {{\nkey file {keys}/Kcluster.local\n}}")
    assert controller.files == [keys / "Kcluster.local.key", keys / "Kcluster.local.private"]


def test_equal_keys_share_their_signatures(keys):
    one, _ = accepted("dnssec cluster.local {\nkey file KEYS/Kcluster.local\n}", keys)
    other, _ = accepted(
        "dnssec cluster.local {\nkey file KEYS/Kcluster.local\ncache_capacity 5\n}", keys
    )
    assert one.signer is other.signer
    assert one.signer.capacity == 5


# -- key files


def pem_of(base, folder):
    """The same key as Knot DNS stores it."""
    record = read_public(base.with_name(base.name + ".key").read_bytes())
    private = read_private(base.with_name(base.name + ".private").read_bytes(), record.rdata[3])
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "Kpem.key").write_bytes(base.with_name(base.name + ".key").read_bytes())
    (folder / "Kpem.pem").write_bytes(pem)
    return folder / "Kpem"


@pytest.mark.parametrize("algorithm", [8, 13, 14, 15])
def test_a_key_in_both_forms(tmp_path, algorithm):
    base = write_key(tmp_path, "Example.Org", algorithm=algorithm)
    key = read_key(base)
    assert (key.owner, key.algorithm, key.is_ksk) == (from_text("example.org"), algorithm, True)
    assert read_key(pem_of(base, tmp_path)).rdata == key.rdata
    assert "sign" not in repr(key)


# From keymgr 3.2.6 of Knot DNS. The secret of the first one has 33 bytes, with a zero in front.
KNOT = {
    "P-256": (
        "13 YK88bDPD47YJxcafT5gffmt9DqK6xB7Bp4Td+qD+q+K9pu2HV/2mTKf+N0+S6f3xubsfugS6Un8LeWNIVug8bA==",
        "MIGUAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBHoweAIBAQQhAL3H0s6CtaTSQ3FNcXYPlfvq546aCJMWdM7aRfe5uswEoAoGCCqGSM49AwEHoUQDQgAEYK88bDPD47YJxcafT5gffmt9DqK6xB7Bp4Td+qD+q+K9pu2HV/2mTKf+N0+S6f3xubsfugS6Un8LeWNIVug8bA==",
    ),
    "P-384": (
        "14 KYpLFrg5dOyq2aZm/D4hmXNS/k1xiz89O8tqUynJyJj/4KWqkM7IFLi6ZdYXBAqUlWXV5XPMCY8AUqdIM4TlMZ5M4Z9CpYuwRS0F3BZnM4UPvvTqaenIzlQh6sVUGxXI",
        "MIG/AgEAMBAGByqGSM49AgEGBSuBBAAiBIGnMIGkAgEBBDA0kESUa1+5InRZw6zgwTksMfPCjayHICZAynyl+m6WspI6mIPiB6wDSGrWw/7UdoKgBwYFK4EEACKhZANiAAQpiksWuDl07KrZpmb8PiGZc1L+TXGLPz07y2pTKcnImP/gpaqQzsgUuLpl1hcECpSVZdXlc8wJjwBSp0gzhOUxnkzhn0Kli7BFLQXcFmczhQ++9Opp6cjOVCHqxVQbFcg=",
    ),
    "Ed25519": (
        "15 KgrnC8H5GVyk6DAYCJrgKcGe778uWZOQ0V7cjnwys1M=",
        "MC4CAQAwBQYDK2VwBCIEID6NyQ0e/DPs/WXwONvoqlcDK/5URf0pM0CfIxBAAW6r",
    ),
}


@pytest.mark.parametrize("kind", KNOT)
def test_keys_of_knot(tmp_path, kind):
    record, private = KNOT[kind]
    (tmp_path / "K.key").write_text(f"example.org. DNSKEY 257 3 {record}\n")
    lines = f"-----BEGIN PRIVATE KEY-----\n{private}\n-----END PRIVATE KEY-----\n"
    (tmp_path / "K.pem").write_text(lines)
    assert read_key(tmp_path / "K").owner == from_text("example.org")
    (tmp_path / "K.pem").write_text(lines.replace(private[:8], "AAAA" * 2))
    with pytest.raises(KeyFileError, match="readable without password"):
        read_key(tmp_path / "K")


@pytest.mark.parametrize("algorithm", ["RSASHA256", "RSASHA512", "ECDSAP256SHA256", "ED25519"])
def test_keys_of_bind(tmp_path, algorithm):
    made = subprocess.run(
        ["dnssec-keygen", "-q", "-K", str(tmp_path), "-a", algorithm, "-b", "1024", "example.org"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    key = read_key(tmp_path / made)
    assert made.endswith(f"+{key.algorithm:03d}+{key.tag:05d}")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", ""),
        ("Activate: 20260101000000\nInactive: 20280101000000", ""),
        ("Activate: 20270201000000", "is not active before 2027-02-01T00:00:00Z"),
        ("Activate: 20260101000000\nInactive: 20270101000000", "is inactive since 2027-01-01T00:00:00Z"),
        ("Delete: 20260601000000\nInactive: 20260101000000", "was to be deleted at 2026-06-01T00:00:00Z"),
        ("Activate: 20279901000000", ""),
        ("Activate: soon", ""),
    ],
)  # fmt: skip
def test_times_of_key_files(lines, message):
    assert timing_problem(f"Private-key-format: v1.3\n{lines}\n".encode(), 1_798_761_600) == message


def test_warnings_about_key_files(tmp_path):
    base = write_key(tmp_path, "cluster.local", "K")
    private = tmp_path / "K.private"
    assert accepted("dnssec cluster.local {\nkey file KEYS/K\n}", tmp_path)[1] == []
    private.write_text(private.read_text() + "Delete: 20200101000000\n")
    private.chmod(0o644)
    modes, times = accepted("dnssec cluster.local {\nkey file KEYS/K\n}", tmp_path)[1]
    assert modes == f"all users of the machine can read {private}"
    assert times.endswith(
        f"(keyid: {read_key(base).tag}) was to be deleted at 2020-01-01T00:00:00Z"
    )


def edited(tmp_path, suffix, old, new, **options):
    base = write_key(tmp_path, "example.org", **options)
    path = base.with_name(base.name + suffix)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(KeyFileError) as caught:
        read_key(base)
    assert str(caught.value).startswith(str(base))
    return str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        (".key", "DNSKEY 257", "DNSKEY 1", "not a zone key"),
        (".key", "DNSKEY 257", "DNSKEY 385", "revoked"),
        (".key", "DNSKEY 257 3", "DNSKEY 257 2", "malformed"),
        (".key", "DNSKEY 257 3 13", "DNSKEY 257 3 15", "another algorithm"),
        (".key", "IN DNSKEY", "CH DNSKEY", "not DNSKEY"),
        (".key", "IN DNSKEY", "IN KEY", "is KEY, not DNSKEY"),
        (".key", "example.org.", ";", "not a DNSKEY record"),
        (".private", "v1.3", "v2.0", "neither a private key"),
        (".private", "Algorithm: 13", "Algorithm: x", "another algorithm"),
        (".private", "PrivateKey: ", "PrivateKey: *", "missing or not base64"),
        (".private", "PrivateKey: ", "Secret: ", "missing or not base64"),
        (".private", "Private-key-format: v1.3", "-----BEGIN X-----", "without password"),
    ],
)
def test_a_file_that_is_no_key(tmp_path, suffix, old, new, message):
    assert message in edited(tmp_path, suffix, old, new)


@pytest.mark.parametrize("algorithm", [8, 13, 15])
def test_a_private_key_of_another_record(tmp_path, algorithm):
    base = write_key(tmp_path, "example.org", "one", algorithm=algorithm)
    other = write_key(tmp_path, "example.org", "other", algorithm=algorithm)
    base.with_name("one.key").write_bytes(other.with_name("other.key").read_bytes())
    with pytest.raises(KeyFileError, match="is not that of the DNSKEY record"):
        read_key(base)


def test_a_key_that_the_system_does_not_allow(tmp_path, monkeypatch):
    """Such as SHA-1 by a policy of the distribution: the start reports it, not each query."""
    base = write_key(tmp_path, "example.org", algorithm=8)

    def refuse(*args):
        raise UnsupportedAlgorithm("sha1 is not supported")

    parts = signing_keys._parts
    monkeypatch.setattr(signing_keys, "_parts", lambda *args: (refuse, *parts(*args)[1:]))
    with pytest.raises(KeyFileError, match="this system cannot sign with it: sha1"):
        read_key(base)


def test_unsupported_algorithms():
    with pytest.raises(BadKey, match="algorithm 16 is not supported"):
        read_private(b"Private-key-format: v1.3\nAlgorithm: 16 (ED448)\nPrivateKey: AAAA", 16)
    with pytest.raises(BadKey, match="algorithm 3 is not supported"):
        signing_key(b"\0", b"\1\1\3\3abc", object())


def test_names_of_key_files(tmp_path):
    for name in ("Kx.+013+1", "Kx.+013+1.key", "Kx.+013+1.private", "Kx.+013+1.pem"):
        assert base_of(tmp_path / name) == tmp_path / "Kx.+013+1"


FIELDS = ["Private-key-format", "Algorithm", "Activate", "Delete", "Modulus", "PublicExponent", "PrivateExponent", "Prime1",
          "Prime2", "Exponent1", "Exponent2", "Coefficient", "PrivateKey"]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(["v1.3", "v1.2", "8 (RSASHA256)", "13", "15 (ED25519)"]),
    st.binary(max_size=64).map(lambda it: base64.b64encode(it).decode()),
    st.text(max_size=20),
)
FILES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), max_size=14).map(
        lambda pairs: "\n".join(f"{name}: {value}" for name, value in pairs).encode()
    ),
    st.binary(max_size=80).map(lambda it: b"-----BEGIN PRIVATE KEY-----\n" + it),
    # RFC 5958 and RFC 5915 in parts
    st.lists(
        st.sampled_from(
            [b"0\x20", b"\2\1\0", b"0\0", b"\4\x20", b"0\x81\1", b"\2\1\1", b"\4\1\1", b""]
        )
    ).map(
        lambda parts: (
            b"-----BEGIN PRIVATE KEY-----\n"
            + base64.b64encode(b"".join(parts))
            + b"\n-----END PRIVATE KEY-----"
        )
    ),
)


@settings(max_examples=150, deadline=None)
@given(FILES, st.integers(0, 255))
def test_no_content_of_a_key_file_fails_otherwise(content, algorithm):
    readers = (
        read_public,
        lambda it: read_private(it, algorithm),
        lambda it: timing_problem(it, 0),
    )
    for read in readers:
        with contextlib.suppress(BadKey):
            read(content)
