"""Replies that are on their way while the data below the cache changes."""

import pytest

from corepy.testing import make_request
from corepy_cache.changes import LONGEST_QUERY, RecentChanges


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
