"""The journals of zones: which changes are kept, and for which clients (RFC 1995)."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy.testing import helper_module, until
from corepy.zone import ServedZone
from corepy_transfer import journals
from corepy_transfer.journal import Change, Journal, change_of, incremental
from corepy_transfer.journals import Journals

zones = helper_module(__file__, "transfer_zones")
Zones, a_record, soa_record, wire = zones.Zones, zones.a_record, zones.soa_record, zones.wire

ORIGIN = from_text("example.org.")


def record(number):
    return wire(a_record("h.example.org.", number))


def change(old, new, removed=(), added=()):
    return Change(
        old,
        new,
        (soa_record("example.org.", old), *map(record, removed)),
        (soa_record("example.org.", new), *map(record, added)),
    )


def number_since(journal, serial, current):
    return len(journal.since(serial, current) or ())


def test_the_changes_since_a_serial():
    journal = Journal()
    changes = [change(1, 2, (1,), (2, 3)), change(2, 4, (), (4,)), change(4, 5, (2, 3, 4), ())]
    for each in changes:
        journal.add(each)
    for first, serial in enumerate((1, 2, 4)):
        assert journal.since(serial, 5) == changes[first:]
        assert journal.since(serial, 4) is None
    for serial in (0, 3, 5, 6):
        assert journal.since(serial, 5) is None


def test_the_records_of_an_incremental_transfer():
    """RFC 1995 section 4: between the SOA records are pairs of removed and added records."""
    first, second = change(1, 2, (1,), (2, 3)), change(2, 3, (), (4,))
    soa = soa_record("example.org.", 3)
    expected = [(soa,), first.removed, first.added, second.removed, second.added, (soa,)]
    assert list(incremental([first, second])) == expected


def test_a_change_of_two_versions():
    source = Zones()
    before = source.served.current
    new = a_record("new.example.org.", 9)
    source.change([source.hosts[0]], [new], 7)
    found = change_of(before, source.served.current)
    assert found == (
        1,
        7,
        (soa_record("example.org.", 1), wire(source.hosts[0])),
        (soa_record("example.org.", 7), wire(new)),
    )
    assert (found.number, found.size) == (4, sum(len(it) for it in [*found.removed, *found.added]))


def test_a_gap_removes_the_changes_before_it():
    journal = Journal()
    journal.add(change(1, 2))
    journal.add(change(3, 4))
    assert (journal.since(1, 4), number_since(journal, 3, 4)) == (None, 1)


@pytest.mark.parametrize("serial", [1, 2, 2 + 0x80000000])
def test_a_serial_that_goes_back_removes_all_changes(serial):
    journal = Journal()
    journal.add(change(1, 2))
    journal.add(change(2, serial))
    assert (len(journal), journal.size) == (0, 0)


def test_few_changes_are_kept():
    journal = Journal(most_changes=3)
    for serial in range(10):
        journal.add(change(serial, serial + 1))
    assert (len(journal), journal.since(6, 10), number_since(journal, 7, 10)) == (3, None, 3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20)), max_size=30), st.integers(1, 500))
def test_the_size_is_bounded(steps, most):
    journal = Journal(most_bytes=most)
    serial = 0
    for step, number in steps:
        journal.add(change(serial, serial + step, range(number), ()))
        serial += step
        assert journal.size <= most
    kept = list(journal._changes)
    assert sum(it.size for it in kept) == journal.size
    assert not kept or kept[-1].new_serial == serial


# -- following zones


def followed(*steps, most_bytes=journals.MOST_BYTES):
    """The journals and the notifications after `steps`, functions of the source."""

    async def run():
        source, told = Zones(size=50), list[bytes]()
        found = Journals(told.append, most_bytes)
        source.zones.subscribe(found)
        for step in steps:
            step(source)
            await until(lambda: not found._tasks)
        return source, found, told

    return asyncio.run(run())


def test_each_change_is_kept_and_notified():
    source, found, told = followed(*[Zones.change] * 3)
    assert told == [ORIGIN] * 3
    zone = source.served.current
    portions = list(found.records(zone, 1))
    assert [soa_record("example.org.", it) for it in (4, 1, 2, 2, 3, 3, 4, 4)] == [
        record for portion in portions for record in portion
    ]
    assert found.records(zone, 0) is None
    assert found.records(Zones(size=60).served.current, 1) is None


def test_changes_that_are_larger_than_the_zone_are_not_sent():
    """RFC 1995 section 4: the zone has 53 records, the changes 54 and 52."""
    source, found, told = followed(
        lambda source: source.change(source.hosts),
        lambda source: source.change((), source.hosts),
    )
    assert told == [ORIGIN] * 2
    assert found.records(source.served.current, 1) is None
    assert found.records(source.served.current, 2) is not None


def test_changes_during_a_comparison_are_one():
    async def run():
        source, told = Zones(), list[bytes]()
        found = Journals(told.append)
        source.zones.subscribe(found)
        for _ in range(5):
            source.change()
        await until(lambda: not found._tasks)
        return source, found, told

    source, found, told = asyncio.run(run())
    assert len(told) == len(found._journals[ORIGIN]) == 1
    assert len(list(found.records(source.served.current, 1))) == 4


@pytest.mark.parametrize(
    "step",
    [
        lambda source: source.change(serial=source.served.current.serial),
        lambda source: source.served.expire(),
        lambda source: source.zones.remove(ORIGIN),
        lambda source: source.zones.add(ServedZone(ORIGIN, source.served.current)),
    ],
    ids=["same serial", "expired", "removed", "added again"],
)
def test_a_zone_that_begins_anew_has_no_changes(step):
    source = Zones()
    current = source.served.current
    source, found, told = followed(Zones.change, step)
    if source.served.is_expired:
        assert told == [ORIGIN]
        found.zone_changed(ServedZone(ORIGIN, current), None)
        assert told == [ORIGIN] * 2
    assert not found._journals


def test_the_memory_of_all_journals_is_bounded():
    async def run():
        found = Journals(lambda zone: None, 300)
        sources = [Zones(f"z{number}.example.org.") for number in range(3)]
        for source in sources:
            source.zones.subscribe(found)
            source.change()
            await until(lambda: not found._tasks)
        return [found._journals[source.served.origin].size for source in sources]

    sizes = asyncio.run(run())
    assert sizes[0] == 0
    assert 0 < sum(sizes) <= 300


def test_a_failed_comparison_is_logged_and_notified(monkeypatch, caplog):
    monkeypatch.setattr(journals, "change_of", lambda before, after: 1 / 0)
    _, found, told = followed(Zones.change)
    assert (told, found._journals) == ([ORIGIN], {})
    assert "the versions of zone 'example.org.' cannot be compared" in caplog.text


def test_stopping():
    async def run():
        source, told = Zones(), list[bytes]()
        found = Journals(told.append)
        source.zones.subscribe(found)
        source.change()
        (task,) = found._tasks.values()
        found.stop()
        await asyncio.wait([task])
        return found, told

    found, told = asyncio.run(run())
    assert (told, found._tasks, found._latest) == ([], {}, {})
