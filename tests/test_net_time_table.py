"""The table behind the limits on the rates of clients: exact while it has room, fixed in memory."""

from array import array
from math import inf

import pytest

from corepy.net.time_table import CELLS, TimeTable


def stored(size=3, idle=10.0, **times):
    """A table after its first turn at 0, with times by one-letter keys."""
    table = TimeTable(size, idle)
    table.turn(0.0)
    for key, time in times.items():
        put(table, ord(key), time)
    return table


def put(table, key, time):
    table.get(key)
    table.put(key, time)


def test_times_of_keys():
    table = stored(a=1.0, b=2.0)
    put(table, ord("a"), 5.0)
    assert [table.get(ord(it)) for it in "abc"] == [5.0, 2.0, -inf]
    assert (len(table), table.missed) == (2, 0)


def test_a_key_in_use_is_never_dropped():
    table = stored(a=1.0, b=2.0)
    for now in (10.0, 20.0, 30.0):
        assert now >= table.due
        table.turn(now)
        assert table.get(ord("a")) == 1.0
    assert (table.get(ord("b")), len(table)) == (-inf, 1)


@pytest.mark.parametrize(("pause", "kept"), [(10.0, True), (19.9, True), (20.0, False)])
def test_a_turn_that_comes_late_drops_what_two_turns_would_have(pause, kept):
    table = stored(a=1.0)
    table.turn(pause)
    assert table.get(ord("a")) == (1.0 if kept else -inf)


def test_a_full_table_keeps_what_it_knows_and_shares_cells_for_the_rest():
    table = stored(a=1.0, b=2.0, c=3.0)
    put(table, ord("d"), 4.0)
    assert [table.get(ord(it)) for it in "abcd"] == [1.0, 2.0, 3.0, 4.0]
    assert (len(table), table.missed) == (3, 1)


def test_a_time_in_a_sketch_never_decreases_and_follows_its_key_into_the_table():
    table = stored(size=1, a=1.0, b=9.0)
    put(table, ord("b"), 4.0)
    assert table.get(ord("b")) == 9.0
    table.turn(10.0)
    table.turn(20.0)
    assert table.get(ord("b")) == 9.0
    put(table, ord("b"), 11.0)
    assert (len(table), table.get(ord("b")), table.missed) == (1, 11.0, 2)


def test_a_view_changes_nothing():
    table = stored(size=1, a=1.0, b=2.0)
    table.turn(10.0)
    for _ in range(2):
        assert [table.view(ord(it)) for it in "abc"] == [1.0, 2.0, -inf]
    assert len(table) == 1
    table.turn(20.0)
    assert table.view(ord("a")) == -inf


def test_few_keys_of_a_flood_share_both_cells_of_a_key():
    """So few that a client which is not in the table is rarely mistaken for others."""
    table = TimeTable(0, 10.0)
    table.turn(0.0)
    for key in range(4000):
        put(table, key, 5.0)
    mistaken = sum(table.get(key) > -inf for key in range(10_000, 20_000))
    share = (4000 / CELLS) ** 2  # 0.4 %, of which the standard deviation is 0.06 %
    assert mistaken < 10_000 * share * 2.5
    assert all(table.get(key) == 5.0 for key in range(4000))  # never too early


def test_cells_cannot_be_chosen_from_outside():
    cells = array("d"), array("d")
    places = {TimeTable(0, 1.0)._places(7, cells)[2:] for _ in range(8)}
    assert len(places) > 1
