"""Replies that are on their way while the data below the cache changes."""

import asyncio
from typing import Any

import pytest

from corepy.dns.names import from_text
from corepy.plugin import ChangedNames
from corepy.testing import make_request
from corepy_cache.changes import LONGEST_QUERY, RecentChanges
from corepy_cache.keys import name_of
from corepy_cache.purge import purge_names


def asked(name, received):
    request = make_request(name)
    request.received = received
    return request


@pytest.mark.parametrize(
    ("name", "received", "outdated"),
    [
        ("a.", 99.0, True),
        ("a.", 100.0, True),
        ("A.", 100.0, True),
        ("a.", 100.5, False),
        ("b.", 100.0, True),
        ("b.", 100.5, True),
        ("b.", 101.5, False),
        ("c.", 99.0, False),
    ],
)
def test_queries_before_a_change_of_their_name(name, received, outdated):
    changes = RecentChanges()
    changes.add(100.0, b"\1a\0".__eq__)
    changes.add(101.0, b"\1b\0".__eq__)
    assert changes.outdate(asked(name, received)) == outdated


def test_changes_are_forgotten_when_no_query_can_be_that_old():
    changes = RecentChanges()
    changes.add(100.0, b"\1a\0".__eq__)
    changes.add(100.0 + LONGEST_QUERY, b"\1a\0".__eq__)
    assert [change.at for change in changes.recent] == [100.0 + LONGEST_QUERY]
    assert not changes.outdate(asked("a.", 101.0 + 2 * LONGEST_QUERY))
    assert changes.recent == []
    assert not changes.outdate(asked("a.", 1.0))


class Table:
    """The entries of a store, by key."""

    def __init__(self, keys):
        self.entries = dict.fromkeys(keys)

    def remove(self, key):
        del self.entries[key]
        return True


KINDS = (b"\0\1\0\1", b"\0\x1c\0\1", b"\0\1\0\1\4", b"\0\1\0\1\4\1\x18\xc0\0\2")
"""What follows the name in keys: type and class, flags, a subnet."""


def test_all_entries_of_some_names_are_removed():
    names = ["a.", "b.", "a.a.", "a.b.example.", "."]
    keys = [from_text(name) + kind for name in names for kind in KINDS]
    tables: Any = [Table(keys), Table(keys[:4])]
    changed = ChangedNames([from_text("a."), from_text("a.b.example."), from_text("c.")])
    assert changed(from_text("a.")) != changed(from_text("a.a."))
    assert asyncio.run(purge_names(tables, changed.names)) == 3 * len(KINDS)
    assert {name_of(key) for key in tables[0].entries} == {
        from_text(it) for it in ("b.", "a.a.", ".")
    }
    assert not tables[1].entries
