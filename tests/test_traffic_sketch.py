"""Space-Saving keeps its promises for any stream, merged sketches do, and the memory is bounded."""

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy.server.traffic import top
from corepy.server.traffic.space_saving import SpaceSaving, merged, summary
from corepy.server.traffic.top import LEAST_LABELS, MOST_LABELS, TABLES, TopQueries, suffix_of

KEYS = st.integers(0, 30).map(lambda number: b"k%d" % number)
STREAMS = st.lists(st.tuples(KEYS, st.integers(1, 50)), max_size=200)


def sketch_of(stream, capacity):
    sketch, truth = SpaceSaving(capacity), Counter[bytes]()
    for key, weight in stream:
        sketch.add(key, weight)
        truth[key] += weight
    return sketch, truth


def check(items, bound, truth):
    """Check the bounds of each item, and those of all others."""
    for key, estimate, error in items:
        assert estimate - error <= truth[key] <= estimate
    listed = {item.key for item in items}
    assert all(count <= bound for key, count in truth.items() if key not in listed)
    estimates = [item.estimate for item in items]
    assert estimates == sorted(estimates, reverse=True)


@given(STREAMS, st.integers(1, 20))
@settings(max_examples=150, deadline=None)
def test_the_bounds_of_a_sketch(stream, capacity):
    sketch, truth = sketch_of(stream, capacity)
    total = sum(truth.values())
    items = sketch.items()
    assert sketch.total == total
    assert len(items) == min(len(truth), capacity)
    check(items, sketch.bound, truth)
    assert all(item.error * capacity <= total for item in items)
    assert sketch.bound * capacity <= total
    listed = {item.key for item in items}
    assert {key for key, count in truth.items() if count * capacity > total} <= listed
    if len(truth) <= capacity:
        assert {item.key: item.estimate for item in items} == truth
        assert not any(item.error for item in items)


@given(st.lists(STREAMS, min_size=1, max_size=4), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_the_bounds_of_merged_sketches(streams, capacity, most):
    sketches, truth = [], Counter[bytes]()
    for stream in streams:
        sketch, counts = sketch_of(stream, capacity)
        sketches.append(summary(sketch, most))
        truth += counts
    found = merged(sketches, most)
    assert found.total == sum(truth.values())
    assert len(found.items) <= most
    check(found.items, found.bound, truth)


def test_a_name_with_a_hundredth_of_a_flood_of_random_names_is_found():
    sketch = SpaceSaving(top.CAPACITY)
    for number in range(20_000):
        sketch.add(b"popular" if number % 100 == 0 else b"random%d" % number, 1)
    first = sketch.items()[0]
    assert first.key == b"popular"
    assert first.estimate - first.error <= 200 <= first.estimate
    assert sketch.bound <= 20_000 / top.CAPACITY


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        (".", "."),
        ("org.", "org."),
        ("example.org.", "example.org."),
        ("www.example.org.", "example.org."),
        ("a.b.example.org.", "b.example.org."),
        ("kubernetes.default.svc.cluster.local.", "default.svc.cluster.local."),
        ("x.y.z.a.b.example.org.", "a.b.example.org."),
        ("4.3.2.10.in-addr.arpa.", "2.10.in-addr.arpa."),
    ],
)
def test_the_suffix_of_a_name(name, suffix):
    assert suffix_of(from_text(name)) == from_text(suffix)
    assert LEAST_LABELS <= MOST_LABELS


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_the_tables_cover_one_to_two_windows():
    clock = Clock()
    queries = TopQueries(clock)
    queries.window.count(b"\x0a\0\0\1", from_text("a.example.org."), 3, 2)
    clock.now += top.WINDOW - 1
    queries.tick()
    queries.window.count(b"\x0a\0\0\1", from_text("b.example.org."), 2, 1)
    clock.now += 1
    queries.tick()
    queries.window.count(b"\x0a\0\0\2", from_text("b.example.org."), 0, 1)
    clock.now += 5
    report = queries.report(10)
    assert (report.seconds, report.sampled) == (top.WINDOW + 5, 3)
    found = {
        name: {item.key: item.estimate for item in report.tables[name].items} for name in TABLES
    }
    a, b, suffix = map(from_text, ("a.example.org.", "b.example.org.", "example.org."))
    assert found == {
        "clients": {b"\x0a\0\0\1": 3, b"\x0a\0\0\2": 1},
        "names": {a: 2, b: 2},
        "suffixes": {suffix: 4},
        "nxdomain": {a: 2},
        "servfail": {b: 1},
    }
    clock.now += top.WINDOW
    queries.tick()
    clock.now += 1
    report = queries.report(10)
    assert report.seconds == 2 * top.WINDOW + 6 - top.WINDOW
    assert [item.key for item in report.tables["names"].items] == [b]


def test_the_memory_of_the_tables_is_as_stated():
    """With the longest names, all different, in both windows."""
    tracemalloc.start()
    try:
        clock = Clock()
        queries = TopQueries(clock)
        for window in range(2):
            clock.now += window * top.WINDOW
            queries.tick()
            for number in range(2 * top.CAPACITY):
                label = b"\x3e%062d" % (number + window * 10_000)
                name = label * 4 + b"\x01a\0"
                for rcode in (2, 3):
                    queries.window.count(number.to_bytes(16, "big"), name, rcode, 1)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert top.MEMORY / 2 < used < top.MEMORY
