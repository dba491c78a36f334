"""The states of trust anchors' keys (RFC 5011 section 4), their file and their intervals."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import ROOT, from_text
from corepy_forward.validation.anchor import SeenKeys, ds_of, without_revocation
from corepy_forward.validation.anchor_schedule import (
    HOUR,
    LONGEST,
    Schedule,
    query_interval,
    retry_interval,
)
from corepy_forward.validation.anchor_states import (
    ADD_HOLD_DOWN,
    DAY,
    MOST_KEYS,
    REMOVE_HOLD_DOWN,
    Keys,
    State,
    TrackedKey,
    advance,
    changes,
    expire,
    shift,
)
from corepy_forward.validation.anchor_store import (
    FORMAT,
    StateError,
    Stored,
    ZoneState,
    read_states,
    write_states,
)

NOW = 1_800_000_000
TTL = 172_800
START, PENDING, VALID = None, State.PENDING, State.VALID
MISSING, REVOKED, REMOVED = State.MISSING, State.REVOKED, State.REMOVED


def key(number: int, flags: int = 257) -> bytes:
    return flags.to_bytes(2, "big") + b"\3\x0d" + bytes((number,)) * 64


OTHER, KEY = key(1), key(2)
REVOKED_KEY = key(2, 385)


def seen(
    keys: Iterable[bytes], signers: Iterable[bytes], ttl: int = TTL, expires: int = NOW + 20 * DAY
) -> SeenKeys:
    return SeenKeys(tuple(keys), frozenset(signers), ttl, expires)


def known(state: State | None, until: int = 0) -> Keys:
    keys = {OTHER: TrackedKey(VALID, 0)}
    return keys if state is None else keys | {KEY: TrackedKey(state, NOW - DAY, until)}


def never(_: bytes) -> bool:
    return False


EVENTS: dict[str, tuple[list[bytes], list[bytes]]] = {
    "present": ([OTHER, KEY], [OTHER]),
    "absent": ([OTHER], [OTHER]),
    "revoked": ([OTHER, REVOKED_KEY], [OTHER, REVOKED_KEY]),
    "revoked by another": ([OTHER, REVOKED_KEY], [OTHER]),
    "present unsigned": ([OTHER, KEY], [KEY]),
    "absent unsigned": ([OTHER], []),
    "revoked alone": ([OTHER, REVOKED_KEY], [REVOKED_KEY]),
}
"""DNSKEY sets with the keys that have signed them."""

TABLE: list[tuple[State | None, str, int, State | None]] = [
    (START, "present", 0, PENDING),
    (START, "absent", 0, START),
    (START, "revoked", 0, START),
    (START, "present unsigned", 0, START),
    (PENDING, "present", NOW + 1, PENDING),
    (PENDING, "present", NOW, VALID),
    (PENDING, "present unsigned", NOW, PENDING),
    (PENDING, "absent", NOW, START),
    (PENDING, "absent unsigned", NOW, PENDING),
    (PENDING, "revoked", NOW, START),
    (PENDING, "revoked alone", NOW, START),
    (VALID, "present", 0, VALID),
    (VALID, "absent", 0, MISSING),
    (VALID, "absent unsigned", 0, VALID),
    (VALID, "revoked", 0, REVOKED),
    (VALID, "revoked alone", 0, REVOKED),
    (VALID, "revoked by another", 0, MISSING),
    (MISSING, "present", 0, VALID),
    (MISSING, "absent", 0, MISSING),
    (MISSING, "revoked", 0, REVOKED),
    (MISSING, "revoked alone", 0, REVOKED),
    (REVOKED, "present", NOW + 1, REVOKED),
    (REVOKED, "absent", NOW + 1, REVOKED),
    (REVOKED, "revoked", NOW + 1, REVOKED),
    (REVOKED, "absent", NOW, REMOVED),
    (REVOKED, "present", NOW, REMOVED),
    (REMOVED, "present", 0, REMOVED),
    (REMOVED, "absent", 0, REMOVED),
    (REMOVED, "revoked", 0, REMOVED),
]


@pytest.mark.parametrize(("before", "event", "until", "after"), TABLE)
def test_the_table_of_rfc_5011(
    before: State | None, event: str, until: int, after: State | None
) -> None:
    keys = advance(known(before, until), seen(*EVENTS[event]), never, NOW)
    found = keys[KEY].state if KEY in keys else None
    assert found is after
    assert keys[OTHER].state is VALID
    expected = [] if found is before else [(KEY, before, after)]
    assert list(map(tuple, changes(known(before, until), keys))) == expected


def test_every_state_of_the_table_is_tested() -> None:
    assert {row[0] for row in TABLE} == {None, *State}


@pytest.mark.parametrize(("ttl", "wait"), [(TTL, ADD_HOLD_DOWN), (40 * DAY, 40 * DAY)])
def test_a_new_key_waits_for_the_longer_of_hold_down_and_ttl(ttl: int, wait: int) -> None:
    keys = advance(known(None), seen([OTHER, KEY], [OTHER], ttl), never, NOW)
    assert keys[KEY] == (PENDING, NOW, NOW + wait)
    assert advance(keys, seen([OTHER, KEY], [OTHER]), never, NOW + wait - 1) == keys
    late = advance(keys, seen([OTHER, KEY], [OTHER]), never, NOW + wait)
    assert late[KEY] == (VALID, NOW + wait, 0)


def test_a_revoked_key_is_removed_after_its_hold_down_time() -> None:
    keys = advance(known(VALID), seen(*EVENTS["revoked"]), never, NOW)
    assert keys[KEY] == (REVOKED, NOW, NOW + REMOVE_HOLD_DOWN)
    assert expire(keys, NOW + REMOVE_HOLD_DOWN - 1) == keys
    assert expire(keys, NOW + REMOVE_HOLD_DOWN)[KEY].state is REMOVED


def test_a_configured_key_is_trusted_at_once_unless_it_was_revoked() -> None:
    is_configured = KEY.__eq__
    keys = advance({}, seen([KEY, OTHER], [KEY]), is_configured, NOW)
    assert keys == {KEY: (VALID, NOW, 0), OTHER: (PENDING, NOW, NOW + ADD_HOLD_DOWN)}
    waiting = {KEY: TrackedKey(PENDING, NOW, NOW + 9)}
    assert advance(waiting, seen([KEY], [KEY]), is_configured, NOW)[KEY].state is VALID
    gone = advance({}, seen([REVOKED_KEY, OTHER], [REVOKED_KEY]), is_configured, NOW)
    assert gone == {KEY: (REVOKED, NOW, NOW + REMOVE_HOLD_DOWN)}
    assert advance(gone, seen([KEY, OTHER], [KEY]), is_configured, NOW) == gone


def test_a_revoked_key_confirms_no_set() -> None:
    both = seen([OTHER, KEY, key(3)], [KEY])
    keys = {OTHER: TrackedKey(VALID, 0), KEY: TrackedKey(REVOKED, NOW, NOW + DAY)}
    assert advance(keys, both, never, NOW) == keys


@pytest.mark.parametrize("unfit", [key(3, 256), key(3, 1), key(3)[:2] + b"\2" + key(3)[3:]])
def test_only_key_signing_keys_of_zones_become_anchors(unfit: bytes) -> None:
    keys = advance(known(None), seen([OTHER, unfit], [OTHER]), never, NOW)
    assert list(keys) == [OTHER]


def test_the_number_of_keys_is_limited() -> None:
    many = [key(number) for number in range(3, MOST_KEYS + 5)]
    keys = advance(known(MISSING), seen([OTHER, *many], [OTHER]), never, NOW)
    assert len(keys) == MOST_KEYS
    assert KEY not in keys  # it was out of use, and made room
    assert OTHER in keys


def test_a_configured_key_makes_no_room() -> None:
    keys = {key(number): TrackedKey(MISSING, number) for number in range(MOST_KEYS)}
    new = key(MOST_KEYS)
    after = advance(keys, seen([key(9), new], [key(9)]), key(0).__eq__, NOW)
    assert after.keys() ^ keys.keys() == {key(1), new}  # the next oldest one


def test_a_pending_key_waits_anew_if_the_clock_is_before_its_first_sight() -> None:
    keys = {OTHER: TrackedKey(VALID, 0), KEY: TrackedKey(PENDING, NOW, NOW + 7)}
    again = advance(keys, seen([OTHER, KEY], [OTHER]), never, NOW - 100)
    assert again[KEY] == (PENDING, NOW - 100, NOW - 93)


def test_hold_down_times_move_with_the_clock() -> None:
    keys = known(PENDING, NOW + DAY) | {key(3): TrackedKey(REVOKED, NOW, NOW + DAY)}
    moved = shift(keys, NOW, 40 * DAY)
    assert moved == keys | {KEY: (PENDING, NOW + 39 * DAY, NOW + 41 * DAY)}
    assert shift(moved, NOW + 40 * DAY, -40 * DAY) == keys
    assert shift(keys, 1000, NOW) == keys  # it began with a clock that was wrong


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(
        [OTHER, KEY, REVOKED_KEY, key(1, 385), key(3), key(4, 256)])),
        st.integers(0, 60 * DAY)), max_size=12)
)  # fmt: skip
def test_no_sequence_trusts_a_new_key_early_or_a_revoked_key_again(
    steps: list[tuple[list[bytes], int]],
) -> None:
    keys, now = known(None), NOW
    first: dict[bytes, int] = {}
    gone: set[bytes] = set()
    for present, wait in steps:
        now += wait
        for new in present:
            first.setdefault(new, now)
        keys = advance(keys, seen(present, present), OTHER.__eq__, now)
        trusted = {it for it, found in keys.items() if found.state in (VALID, MISSING)}
        gone |= {it for it, found in keys.items() if found.state is REVOKED}
        assert not trusted & gone
        for it in trusted - {OTHER}:
            assert now - first[it] >= ADD_HOLD_DOWN


@pytest.mark.parametrize(
    ("ttl", "left", "query", "retry"),
    [
        (172_800, 20 * DAY, DAY, 17_280),
        (60, 20 * DAY, HOUR, HOUR),
        (90 * DAY, 90 * DAY, LONGEST, DAY),
        (90 * DAY, 4 * DAY, 2 * DAY, 34_560),
        (90 * DAY, -DAY, HOUR, HOUR),
    ],
)
def test_the_intervals_of_rfc_5011_section_2_3(
    ttl: int, left: int, query: float, retry: float
) -> None:
    found = seen([], [], ttl, NOW + left)
    assert (query_interval(found, NOW), retry_interval(found, NOW)) == (query, retry)


def test_queries_are_repeated_at_these_intervals() -> None:
    schedule = Schedule()
    assert schedule.is_due(ROOT, NOW)
    assert schedule.failed(ROOT, NOW) == HOUR
    assert not schedule.is_due(ROOT, NOW + HOUR - 1)
    assert schedule.is_due(ROOT, NOW + HOUR)
    schedule.succeeded(ROOT, seen([], []), NOW)
    assert not schedule.is_due(ROOT, NOW + 0.9 * DAY - 1)
    assert schedule.is_due(ROOT, NOW + DAY)
    assert schedule.failed(ROOT, NOW) == 17_280
    assert schedule.is_due(ROOT, NOW - LONGEST - DAY)  # the clock was set back


ZONES = {
    ROOT: ZoneState(frozenset([ds_of(ROOT, OTHER)]), known(PENDING, NOW)),
    from_text("example.org"): ZoneState(frozenset(), {}),
}


def test_the_state_file_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert read_states(path) == ({}, None)
    version = write_states(path, ZONES)
    assert read_states(path) == Stored(ZONES, version)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [it.name for it in tmp_path.iterdir()] == ["state"]
    path.write_bytes(b"")
    assert read_states(path).zones == {}
    many = {key(number): TrackedKey(VALID, 0) for number in range(MOST_KEYS + 1)}
    write_states(path, {ROOT: ZoneState(frozenset(), many)})
    assert len(read_states(path).zones[ROOT].keys) == MOST_KEYS


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("prepare", "problem", "is_foreign"),
    [
        (lambda path: path.write_text("nameserver 192.0.2.1"), "another program's file", True),
        (lambda path: path.write_text(path.read_text()[:-40]), "damaged", False),
        (lambda path: path.write_text("[" * 5000 + FORMAT), "another program's file", True),
        (lambda path: path.write_bytes(path.read_bytes() + b"\xff"), "damaged", False),
        (lambda path: path.chmod(0o620), "other users may write it", True),
        (lambda path: path.rename(f"{path}2") and path.symlink_to(f"{path}2"), "a symbol", True),
        (replace_by_fifo, "not a regular file", True),
        (lambda path: os.truncate(path, 2 << 20), "has 2097152 bytes", True),
    ],
    ids=["foreign", "cut", "nested", "bytes", "writable", "link", "fifo", "large"],
)
def test_a_state_file_that_cannot_be_trusted_is_refused(
    tmp_path: Path, prepare: Callable[[Path], object], problem: str, is_foreign: bool
) -> None:
    path = tmp_path / "state"
    write_states(path, ZONES)
    prepare(path)
    with pytest.raises(StateError, match=problem) as caught:
        read_states(path)
    assert caught.value.is_foreign is is_foreign


def test_a_state_file_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "state", os.fstat
    write_states(path, ZONES)
    fields = "st_mode", "st_size"
    monkeypatch.setattr(
        os,
        "fstat",
        lambda it: SimpleNamespace(
            st_uid=12345, **{name: getattr(real(it), name) for name in fields}
        ),
    )
    with pytest.raises(StateError, match="belongs to another user"):
        read_states(path)


ENTRY = {"dnskey": "257 3 8 AQAB", "tag": 1, "state": "valid", "since": NOW, "until": 0}


@pytest.mark.parametrize(
    "zones",
    [
        [],
        {"a..b": {"anchors": [], "keys": []}},
        {".": {"anchors": [], "keys": 7}},
        {".": {"anchors": ["1 2 3"], "keys": []}},
        {".": {"anchors": [], "keys": [ENTRY | {"state": "trusted"}]}},
        {".": {"anchors": [], "keys": [ENTRY | {"since": 1 << 70}]}},
        {".": {"anchors": [], "keys": [ENTRY | {"until": -1}]}},
        {".": {"anchors": [], "keys": [ENTRY | {"since": True}]}},
        {".": {"anchors": [], "keys": [ENTRY | {"dnskey": "385 3 8 AQAB"}]}},
        {".": {"anchors": [], "keys": [{}]}},
    ],
)
def test_damaged_entries_are_refused(tmp_path: Path, zones: object) -> None:
    path = tmp_path / "state"
    path.write_text(json.dumps({"format": FORMAT, "zones": zones}))
    with pytest.raises(StateError, match="damaged") as caught:
        read_states(path)
    assert not caught.value.is_foreign


LEAVES = st.one_of(st.none(), st.integers(), st.text(max_size=9), st.just("valid"))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["keys", "anchors", "dnskey", "state", "since", "until", "."]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_any_content_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_text(json.dumps({"format": FORMAT, "zones": value}))
    path.chmod(0o600)
    with contextlib.suppress(StateError):
        assert isinstance(read_states(path).zones, dict)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_states(tmp_path / "none" / "state", ZONES)
    (tmp_path / "state").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_states(tmp_path / "state", ZONES)
    assert [it.name for it in tmp_path.iterdir()] == ["state"]


def test_revocation_is_a_flag() -> None:
    assert without_revocation(REVOKED_KEY) == KEY == without_revocation(KEY)
