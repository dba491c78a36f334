"""The parts of validation that read bytes and decide: denials, signatures, keys, messages."""

import asyncio
import base64
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.form_error import FormError
from corepy.dns.names import from_text, parent_offsets
from corepy.zone.canonical import canonical_key
from corepy.zone.denial import NSEC3Parameters
from corepy.zone.signatures import signed_data
from corepy.zone.type_bitmaps import type_bitmap
from corepy_forward.validation import checking, public_keys, work
from corepy_forward.validation.checking import Checker, Signature
from corepy_forward.validation.denials import Cut, NSECDenial, Types
from corepy_forward.validation.entries import trusted_keys
from corepy_forward.validation.hashed_denials import NSEC3, NSEC3Denial
from corepy_forward.validation.public_keys import Delegation, ZoneKey
from corepy_forward.validation.record_sets import Message, RecordSet
from corepy_forward.validation.turns import Turns
from corepy_forward.validation.verdicts import INSECURE, SECURE, Bogus
from corepy_forward.validation.work import Queries, Work

A, NS, CNAME, SOA, TXT, DNAME, DS, RRSIG, NSEC_TYPE = 1, 2, 5, 6, 16, 39, 43, 46, 47
ZONE = from_text("test")
LABELS = st.sampled_from(["a", "b", "c", "*"])
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(lambda it: from_text(".".join(it) + ".test"))
KINDS = st.sampled_from([(A,), (TXT,), (A, TXT), (CNAME,), (NS,), (NS, DS), (DNAME,)])
CUTS = {(NS,), (NS, DS), (DNAME,)}


def ancestors(name):
    """Yield the ancestors of a name within the zone, the closest first."""
    for offset in parent_offsets(name)[1:]:
        if len(name) - offset >= len(ZONE):
            yield name[offset:]


class Model:
    """A zone, of which all questions can be answered."""

    def __init__(self, contents):
        cuts = {name for name, types in contents.items() if types in CUTS}
        self.types = {ZONE: (SOA, NS)} | {
            name: types
            for name, types in contents.items()
            if not any(it in cuts for it in ancestors(name))
        }
        self.cuts = cuts
        self.names = set(self.types)
        for name in list(self.types):
            self.names.update(ancestors(name))

    def encloser(self, name):
        return next(it for it in (name, *ancestors(name)) if it in self.names)

    def is_hidden(self, name):
        return any(it in self.cuts for it in ancestors(name))

    def source(self, name):
        """Return the name whose records answer, which may be a wildcard; None for NXDOMAIN."""
        if name in self.names:
            return name
        wildcard = b"\1*" + self.encloser(name)
        return wildcard if wildcard in self.names else None

    def has_no(self, name, rtype):
        source = self.source(name)
        types = self.types.get(source, ())
        if types in CUTS and rtype != DS and types != (DNAME,):
            return False  # the zone below answers
        return rtype not in types and CNAME not in types

    def nsec(self):
        names = sorted(self.types, key=canonical_key)
        for name, following in zip(names, [*names[1:], names[0]], strict=True):
            bitmap = type_bitmap((*self.types[name], RRSIG, NSEC_TYPE))
            yield name, following + bitmap

    def nsec3(self, flags=0, skipped=()):
        parameters = NSEC3Parameters(1, b"x")
        owners = {parameters.hash(it): it for it in self.names if it not in skipped}
        hashes = sorted(owners)
        for digest, following in zip(hashes, [*hashes[1:], hashes[0]], strict=True):
            raw = base64.b32hexdecode(following.upper())
            head = bytes((1, flags, 0, 1, 1)) + b"x" + bytes((len(raw),)) + raw
            bitmap = type_bitmap(self.types.get(owners[digest], ()))
            yield bytes((len(digest),)) + digest + ZONE, head + bitmap


def nsec3_denial(records):
    return NSEC3Denial(ZONE, records, lambda: None)


DENIALS = {
    "nsec": lambda model: (list(model.nsec()), lambda records: NSECDenial(ZONE, records)),
    "nsec3": lambda model: (list(model.nsec3()), nsec3_denial),
}


@pytest.mark.parametrize("kind", DENIALS)
@settings(deadline=None)
@given(contents=st.dictionaries(NAMES, KINDS, max_size=6), name=NAMES, data=st.data())
def test_records_of_a_zone_prove_only_what_is_true(kind, contents, name, data):
    model = Model(contents)
    records, make = DENIALS[kind](model)
    kept = data.draw(st.lists(st.sampled_from(records), unique=True))
    denial = make(kept)
    if denial.no_name(name) is not None:
        assert model.source(name) is None
        assert not model.is_hidden(name)
    for rtype in (A, TXT, DS):
        if denial.no_data(name, rtype) is not None:
            assert model.has_no(name, rtype)
            assert model.source(name) is not None
            assert not model.is_hidden(name)
    for encloser in ancestors(name):
        if denial.no_closer(name, encloser) is not None:
            assert name not in model.names
            # For NSEC3, the signature of the wildcard proves that the encloser exists.
            assert kind == "nsec3" or model.encloser(name) == encloser
            assert len(model.encloser(name)) <= len(encloser)
    cut = denial.no_ds(name)
    if cut is not None:
        assert DS not in model.types.get(name, ())
        assert cut.is_insecure == (NS in model.types.get(name, ()))
        assert cut.exists or model.source(name) is None


@pytest.mark.parametrize("kind", DENIALS)
@settings(deadline=None)
@given(contents=st.dictionaries(NAMES, KINDS, max_size=6), name=NAMES)
def test_all_records_of_a_zone_prove_all_that_is_true(kind, contents, name):
    model = Model(contents)
    records, make = DENIALS[kind](model)
    denial = make(records)
    if model.is_hidden(name):
        return
    if model.source(name) is None:
        assert denial.no_name(name) is SECURE
    elif name not in model.names:
        assert denial.no_closer(name, model.encloser(name)) is SECURE
    for rtype in (A, TXT, DS):
        if model.source(name) is not None and model.has_no(name, rtype):
            assert denial.no_data(name, rtype) is SECURE
    if model.has_no(name, DS):
        assert denial.no_ds(name) is not None


@settings(deadline=None)
@given(contents=st.dictionaries(NAMES, KINDS, max_size=6), name=NAMES)
def test_with_opt_out_what_does_not_exist_is_insecure(contents, name):
    """The insecure delegations have no records (RFC 5155 section 6)."""
    model = Model(contents)
    insecure = {it for it, types in model.types.items() if types == (NS,)}
    denial = nsec3_denial(model.nsec3(1, insecure))
    if model.is_hidden(name):
        return
    if model.source(name) is None and not any(it in insecure for it in model.types):
        assert denial.no_name(name) is INSECURE
    if name in insecure:
        assert denial.no_ds(name) == Cut(is_insecure=True)


def test_a_record_of_the_parent_does_not_deny_names_below_the_cut():
    """RFC 6840 section 4.1, also for DNAME; and the child's record does not deny DS."""
    for types in (NS,), (DNAME,):
        rdata = from_text("d.test") + type_bitmap(types)
        denial = NSECDenial(ZONE, [(from_text("b.test"), rdata)])
        assert denial.no_name(from_text("a.b.test")) is None
        assert denial.no_data(from_text("a.b.test"), A) is None
    rdata = from_text("d.test") + type_bitmap((NS, SOA))
    denial = NSECDenial(ZONE, [(from_text("b.test"), rdata)])
    assert denial.no_ds(from_text("b.test")) is None
    assert denial.no_data(from_text("b.test"), DS) is None


@pytest.mark.parametrize("types", [(NS,), (NS, DS), (DNAME,)])
def test_a_hashed_record_of_the_parent_does_not_deny_names_below_the_cut(types):
    model = Model({from_text("b.test"): types})
    denial = nsec3_denial(list(model.nsec3()))
    name = from_text("a.b.test")
    assert denial.no_name(name) is None
    assert denial.no_data(name, A) is None
    assert denial.no_ds(name) is None


def test_a_next_name_outside_the_zone_is_malformed():
    rdata = from_text("a.other") + type_bitmap((NS, SOA))
    with pytest.raises(FormError, match="outside the zone"):
        NSECDenial(ZONE, [(ZONE, rdata)])


def test_a_name_that_exists_only_to_be_denied():
    """RFC 9824: the NSEC or NSEC3 record of the name has the type NXNAME."""
    name = from_text("a.test")
    for types, expected in (((RRSIG, 128), SECURE), ((RRSIG,), None)):
        records = [(name, b"\1\0" + name + type_bitmap((NSEC_TYPE, *types)))]
        hashed = Model({name: types}).nsec3()
        for denial in NSECDenial(ZONE, records), nsec3_denial(hashed):
            assert denial.no_name(name) is expected
            assert denial.no_data(name, A) is SECURE


def test_only_the_root_itself_can_deny_its_ds_records():
    """Those of other zones are in the zone above."""
    for zone, expected in ((b"\0", SECURE), (ZONE, None)):
        records = [(zone, zone + type_bitmap((NS, SOA)))]
        assert NSECDenial(zone, records).no_data(zone, DS) is expected
        digest = NSEC3Parameters(0, b"").hash(zone)
        rdata = b"\1\0\0\0\0\x14" + bytes(20) + type_bitmap((NS, SOA))
        hashed = NSEC3Denial(zone, [(b"\x20" + digest + zone, rdata)], lambda: None)
        assert hashed.no_data(zone, DS) is expected


def test_nsec3_records_with_unknown_parameters_are_ignored():
    records = list(Model({from_text("a.test"): (A,)}).nsec3())
    name = from_text("b.test")
    assert nsec3_denial(records).no_name(name) is SECURE
    for field in 0, 1:  # the algorithm and a flag
        changed = [(owner, rdata[:field] + b"\2" + rdata[field + 1 :]) for owner, rdata in records]
        assert nsec3_denial(changed).no_name(name) is None
    (first, (owner, rdata)) = records
    denial = nsec3_denial([first, (owner, rdata[:3] + b"\2" + rdata[4:])])
    assert [it.hash for it in denial._records] == [first[0][1:33]]


def test_the_number_of_hashes_is_bounded(monkeypatch):
    monkeypatch.setattr(work, "MOST_HASHES", 10)
    records = list(Model({from_text("a.test"): (A,)}).nsec3())
    denial = NSEC3Denial(ZONE, records, Work().count_hash)
    assert denial.no_name(from_text("b.test")) is SECURE
    with pytest.raises(Bogus, match="more than 10 NSEC3 hashes"):
        denial.no_name(from_text("1.2.3.4.5.6.7.8.9.10.test"))


def test_many_iterations_are_insecure():
    head = bytes((1, 0, 0, 51, 0, 20)) + bytes(20)
    denial = nsec3_denial([(b"\x20" + b"0" * 32 + ZONE, head)])
    assert denial.is_too_costly == (False, 27, "NSEC3 of test. has 51 iterations, more than 50")
    assert nsec3_denial([]).is_too_costly is None


@settings(deadline=None)
@given(st.sets(st.integers(0, 65535), max_size=20), st.integers(0, 65535))
def test_bitmaps(types, other):
    read = Types(type_bitmap(types))
    assert all(it in read for it in types)
    assert (other in read) == (other in types)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 65535))
def test_readers_accept_any_bytes(data, rtype):
    owner = b"\x20" + b"0" * 32 + ZONE
    assert (rtype in Types(data)) in (True, False)
    for read in (
        lambda: NSECDenial(ZONE, [(ZONE, data)]).no_data(ZONE, rtype),
        lambda: NSEC3.read(owner, data),
        lambda: nsec3_denial([(owner, data)]).no_name(from_text("a.test")),
        lambda: Signature.read(bytes(18) + data + b"\0"),
    ):
        try:
            read()
        except FormError:
            pass
    assert len(Delegation.of([data]).usable) <= 1
    assert not public_keys.matches(ZONE, [bytes((0, 0, 13, 2)) + bytes(32)], data)
    for algorithm in public_keys.ALGORITHMS:
        rdata = b"\1\1\3" + bytes((algorithm,)) + data
        for key in public_keys.usable_keys([rdata, data]):
            assert not key.has_signed(b"data", data)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_messages_of_any_bytes(data):
    for wire in data, b"\0\0\x81\x80\0\1\0\3\0\2\0\1\1a\4test\0\0\1\0\1" + data:
        try:
            message = Message(wire, 0)
        except FormError:
            continue
        assert all(it.owner == it.owner.lower() for it in message.records)


class Signer:
    """A key of the zone that signs sets."""

    def __init__(self, private, algorithm, public, sign):
        self.private = private
        self.key = ZoneKey(b"\1\1\3" + bytes((algorithm,)) + public)
        self._sign = sign

    @classmethod
    def p256(cls):
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        private = ec.generate_private_key(ec.SECP256R1())
        public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

        def sign(data):
            numbers = decode_dss_signature(private.sign(data, ec.ECDSA(SHA256())))
            return b"".join(it.to_bytes(32, "big") for it in numbers)

        return cls(private, 13, public[1:], sign)

    def set(
        self, name, *, begins, ends, ttl=300, labels=None, algorithm=None, tag=None, signed_as=None
    ):
        made = RecordSet(from_text(name), A)
        made.rdatas, made.ttl = [b"\1\2\3\4"], 3600
        data = signed_data(from_text(signed_as or name), A, ttl, made.rdatas)
        head = b"\0\1" + bytes((algorithm or self.key.algorithm, labels or data.labels))
        times = (it & 0xFFFFFFFF for it in (ttl, int(ends), int(begins)))
        head += b"".join(it.to_bytes(4, "big") for it in times)
        head += (self.key.tag if tag is None else tag).to_bytes(2, "big") + ZONE
        made.signatures = [head + self._sign(head + data.records)]
        return made


@pytest.fixture(scope="module")
def signer():
    return Signer.p256()


def prove(record_set, signer, now, *, keys=None):
    checker = Checker()
    return asyncio.run(checker.prove(record_set, ZONE, keys or [signer.key], now, Work()))


ERAS = {"today": 1_800_000_000, "2038": 2**31, "2106": 2**32}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("begins", "ends", "code"),
    [(-10, 10, None), (0, 0, None), (-10, -1, 7), (1, 10, 8), (-(2**30), 2**30, None)],
)
def test_the_time_of_signatures_has_32_bits(signer, era, begins, ends, code):
    now = ERAS[era]
    made = signer.set("a.test", begins=now + begins, ends=now + ends)
    if code is None:
        proven = prove(made, signer, now)
        assert (proven.ttl, proven.expires) == (min(300, ends), now + ends)
    else:
        with pytest.raises(Bogus) as caught:
            prove(made, signer, now)
        assert caught.value.ede == code


def test_a_signature_must_fit_key_name_and_data(signer):
    now = time.time()
    valid = {"begins": now - 9, "ends": now + 9}
    assert prove(signer.set("a.test", **valid), signer, now).encloser == from_text("a.test")
    for wrong in ({"labels": 3}, {"labels": 1}, {"algorithm": 8}, {"tag": signer.key.tag ^ 1}):
        with pytest.raises(Bogus):
            prove(signer.set("a.test", **valid, **wrong), signer, now)
    with pytest.raises(Bogus, match="is for another name"):
        prove(signer.set("a.other", **valid), signer, now)
    with pytest.raises(Bogus, match="has too few labels"):
        prove(signer.set("a.test", **valid, signed_as="*"), signer, now)
    wildcard = prove(signer.set("a.b.test", **valid, signed_as="*.test"), signer, now)
    assert (wildcard.encloser, wildcard.is_expanded(from_text("a.b.test"))) == (ZONE, True)
    changed = signer.set("a.test", **valid)
    changed.rdatas = [b"\1\2\3\5"]
    with pytest.raises(Bogus, match="is invalid"):
        prove(changed, signer, now)


def test_one_of_several_signatures_is_enough(signer):
    """RFC 6840 section 5.11: of an unknown algorithm, expired, of another key, and a valid one."""
    now = time.time()
    valid = {"begins": now - 9, "ends": now + 9}
    others = [
        signer.set("a.test", **valid, algorithm=200),
        signer.set("a.test", begins=now - 9, ends=now - 8),
        signer.set("a.test", **valid, tag=signer.key.tag ^ 1),
    ]
    made = signer.set("a.test", **valid)
    made.signatures = [it.signatures[0] for it in [*others, made]]
    assert prove(made, signer, now).ttl == 9


def test_colliding_keys_and_signatures_are_tried_a_few_times(signer, monkeypatch):
    """CVE-2023-50387: each signature by each key would be checked."""
    now = time.time()
    made = signer.set("a.test", begins=now - 9, ends=now + 9)
    tried = []

    class Colliding(ZoneKey):
        def has_signed(self, data, signature):
            tried.append(signature)
            return False

    keys = []
    for number in range(100):
        key = Colliding(signer.key.rdata[:4] + number.to_bytes(64, "big"))
        key.tag = signer.key.tag
        keys.append(key)
    made.signatures = [made.signatures[0][:-1] + bytes((number,)) for number in range(100)]
    with pytest.raises(Bogus, match=f"more than {work.MOST_FAILED_CHECKS} invalid signatures"):
        prove(made, signer, now, keys=keys)
    assert len(tried) == work.MOST_FAILED_CHECKS + 1
    monkeypatch.setattr(work, "MOST_FAILED_CHECKS", 1000)
    monkeypatch.setattr(work, "MOST_CHECKS", 1000)
    tried.clear()
    with pytest.raises(Bogus, match="is invalid"):
        prove(made, signer, now, keys=keys)
    assert len(tried) == checking.MOST_SIGNATURES * checking.MOST_KEYS


def test_the_number_of_checks_is_bounded(monkeypatch):
    monkeypatch.setattr(work, "MOST_CHECKS", 1)
    counted = Work()
    counted.count_check()
    with pytest.raises(Bogus, match="more than 1 signatures to check"):
        counted.count_check()


def test_valid_signatures_are_remembered(signer, monkeypatch):
    monkeypatch.setattr(checking, "_MOST_REMEMBERED", 2)
    now, checker, count = time.time(), Checker(), []
    monkeypatch.setattr(Work, "count_check", lambda _self: count.append(1))
    sets = [signer.set(f"{it}.test", begins=now - 9, ends=now + 9) for it in "abc"]

    async def run():
        for made in (sets[0], sets[0], sets[1], sets[2], sets[2], sets[0]):
            await checker.prove(made, ZONE, [signer.key], now, Work())

    asyncio.run(run())
    assert len(count) == 4  # the first was forgotten, as two are remembered


def test_long_computations_let_the_event_loop_run(monkeypatch):
    monkeypatch.setattr(work, "LONGEST_STEP", -1.0)
    order: list[str] = []

    async def run():
        asyncio.get_running_loop().call_soon(order.append, "another callback")
        await Work().pause()
        order.append("resumed")

    asyncio.run(run())
    assert order == ["another callback", "resumed"]


def test_validations_compute_in_turns(monkeypatch):
    """One in each iteration of the event loop; hostile ones, which have computed a lot, last."""
    monkeypatch.setattr(work, "LONGEST_STEP", 1e9)
    turns = Turns()
    order: list[str] = []

    async def compute(name, steps):
        for _ in range(steps):
            await task_work[name].pause()
            order.append(name)

    async def run():
        waiting = asyncio.create_task(turns.take(0))
        cancelled = asyncio.create_task(turns.take(0))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(compute(*it)) for it in [("a", 4), ("b", 4), ("new", 1)]]
        await asyncio.sleep(0)
        cancelled.cancel()
        while not all(it.done() for it in tasks):
            order.append("|")
            await asyncio.sleep(0)
        await waiting

    task_work = {it: Work(Queries(turns)) for it in ("a", "b", "new")}
    for _ in range(3):
        asyncio.run(task_work["a"].queries.take_turn())
    asyncio.run(run())
    steps = "".join(it[0] for it in order).split("|")
    assert all(len(it) <= 1 for it in steps[:-1])
    assert "".join(steps)[:2] == "bn"
    assert sorted("".join(steps)) == list("aaaabbbbn")


def test_keys_of_ed448_and_large_rsa_numbers():
    private = ed448.Ed448PrivateKey.generate()
    key = ZoneKey(b"\1\1\3\x10" + private.public_key().public_bytes_raw())
    assert key.has_signed(b"data", private.sign(b"data"))
    for exponent, bits in ((2**36 + 1, 2048), (65537, 4104)):
        size = (exponent.bit_length() + 7) // 8
        numbers = exponent.to_bytes(size, "big") + (2**bits - 1).to_bytes(bits // 8, "big")
        assert not ZoneKey(b"\1\1\3\x08" + bytes((size,)) + numbers).has_signed(b"", bytes(512))


def test_the_length_of_an_rsa_exponent_may_have_three_bytes():
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    private = rsa.generate_private_key(65537, 1024)  # the smallest that is allowed, for speed
    modulus = private.public_key().public_numbers().n.to_bytes(128, "big")
    for length in b"\3", b"\0\0\3":
        key = ZoneKey(b"\1\1\3\x08" + length + b"\1\0\1" + modulus)
        assert key.has_signed(b"data", private.sign(b"data", PKCS1v15(), SHA256()))


def test_delegations():
    sha1, sha2, other = (bytes((0, 1, 13, it)) + bytes(n) for it, n in ((1, 20), (2, 32), (9, 9)))
    unknown, short = b"\0\1\xfa\2" + bytes(32), b"\0\1\x0d\2" + bytes(31)
    assert Delegation.of([sha1]) == ((sha1,), True)
    assert Delegation.of([sha1, sha2, other]) == ((sha2,), True)
    assert Delegation.of([other]) == ((), True)
    assert Delegation.of([short]) == ((), True)
    assert Delegation.of([unknown]) == ((), False)
    many = [bytes((0, 1, 13, 2, number)) + bytes(31) for number in range(100)]
    assert len(Delegation.of(many).usable) == public_keys.MOST_DS


def test_the_number_of_keys_of_a_zone_is_bounded():
    found = RecordSet(ZONE, 48)
    found.rdatas = [b"\1\1\3\x0d" + number.to_bytes(64, "big") for number in range(65)]
    with pytest.raises(Bogus, match="more than 64 DNSKEY records"):
        trusted_keys(ZONE, found, lambda _rdata: True)
    found.rdatas.pop()
    assert len(trusted_keys(ZONE, found, lambda _rdata: True)) == 8
