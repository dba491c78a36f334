"""Turns of the event loop that connections share, with a loop that only notes what is scheduled."""

import pytest

from corepy.net import turns as module
from corepy.net.turns import Turns

PER_TURN, PER_STEP = 128, 32


class Loop:
    """An event loop that runs its callbacks when the test says so."""

    def __init__(self):
        self.scheduled = []

    def call_soon(self, call):
        self.scheduled.append(call)

    def turn(self):
        """Run what is scheduled; return how many callbacks there were."""
        scheduled, self.scheduled = self.scheduled, []
        for call in scheduled:
            call()
        return len(scheduled)


class Connection:
    """Processes as many of its queries as its turn allows, and waits for the next one."""

    def __init__(self, turns, queries):
        self.turns, self.left = turns, queries
        self.steps = []
        self.on_step = lambda: None

    def go_on(self):
        step = min(self.turns.step(), self.left)
        self.steps.append(step)
        self.left -= step
        self.turns.count(step)
        self.on_step()
        if self.left:
            self.turns.wait(self)


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    monkeypatch.setattr(module, "get_running_loop", lambda: loop)
    return loop


def test_few_queries_need_no_turn_of_their_own(loop):
    turns = Turns()
    assert turns.step() == PER_TURN
    turns.count(PER_STEP - 1)
    assert (turns.step(), loop.scheduled) == (PER_TURN - PER_STEP + 1, [])
    turns.count(1)
    assert len(loop.scheduled) == 1
    turns.count(PER_STEP)
    assert len(loop.scheduled) == 1
    assert turns.step() == PER_TURN - 2 * PER_STEP
    assert loop.turn() == 1
    assert (turns.step(), loop.scheduled) == (PER_TURN, [])
    turns.count(PER_TURN)
    assert turns.step() == 0
    assert loop.turn() == 1
    assert turns.step() == PER_TURN


def test_connections_that_wait_are_served_in_their_order(loop):
    turns = Turns()
    connections = [Connection(turns, 100) for _ in range(5)]
    for connection in connections:
        turns.wait(connection)
        turns.wait(connection)  # a second time is none
    assert turns.step() == PER_STEP  # for one that does not wait yet
    assert len(loop.scheduled) == 1
    assert loop.turn() == 1
    # The last one in the order finds the turn used up.
    assert [it.steps for it in connections] == [[PER_STEP]] * 4 + [[]]
    assert loop.turn() == 1
    assert [it.steps for it in connections] == [[PER_STEP] * 2] * 3 + [[PER_STEP]] * 2
    while loop.turn():
        pass
    assert [it.left for it in connections] == [0] * 5
    assert sum(map(sum, (it.steps for it in connections))) == 500


def test_the_only_connection_has_the_whole_turn(loop):
    turns = Turns()
    connection = Connection(turns, 300)
    turns.wait(connection)
    while loop.turn():
        pass
    assert connection.steps == [PER_TURN, PER_TURN, 44]


def test_a_connection_that_is_forgotten_has_no_turn(loop):
    turns = Turns()
    first, second, third = (Connection(turns, 10) for _ in range(3))
    for connection in (first, second, third):
        turns.wait(connection)
    turns.forget(first)
    turns.forget(first)
    second.on_step = lambda: turns.forget(third)  # in the same turn
    while loop.turn():
        pass
    assert (first.steps, second.steps, third.steps) == ([], [10], [])


def test_a_connection_that_fails_costs_the_others_no_turn(loop):
    turns = Turns()
    first, second = (Connection(turns, 10) for _ in range(2))

    def fail():
        raise ValueError("broken")

    first.on_step = fail
    turns.wait(first)
    turns.wait(second)
    with pytest.raises(ValueError, match="broken"):
        loop.turn()
    assert second.steps == []
    assert loop.turn() == 1
    assert (first.steps, second.steps, loop.scheduled) == ([10], [10], [])
