"""The timers of QUIC connections: when they fire, and that they keep nothing that has ended."""

import asyncio
import gc
import weakref
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corepy.net.quic.timers import SPARE, Timers


class Owner:
    """A connection."""


class Handle:
    def __init__(self, when, call):
        self._when, self.call, self.is_cancelled = when, call, False

    def when(self):
        return self._when

    def cancel(self):
        self.is_cancelled = True


class Clock:
    """The clock and the timers of an event loop."""

    def __init__(self):
        self.now, self._handles = 0.0, []

    def time(self):
        return self.now

    def call_at(self, when, call):
        self._handles.append(Handle(when, call))
        return self._handles[-1]

    def advance(self, seconds):
        until = self.now + seconds
        while due := [it for it in self._handles if not it.is_cancelled and it.when() <= until]:
            first = min(due, key=Handle.when)
            self._handles.remove(first)
            self.now = max(self.now, first.when())
            first.call()
        self.now = until
        self._handles = [it for it in self._handles if not it.is_cancelled]


def made(fire):
    """Timers with a clock of their own."""

    async def main():
        timers: Any = Timers(fire)
        timers._loop = Clock()
        return timers, timers._loop

    return asyncio.run(main())


ACTIONS = st.one_of(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 20)), st.integers(1, 8))


@given(st.lists(ACTIONS, max_size=60))
def test_a_timer_fires_at_the_time_that_was_set_last(actions):
    fired, expected = [], []
    wanted: dict[int, float] = {}
    timers, clock = made(lambda owner, now: fired.append((owner, now)))
    for action in actions:
        if isinstance(action, int):
            until = clock.now + action
            due = sorted((when, owner) for owner, when in wanted.items() if when <= until)
            expected += [(owner, max(when, clock.now)) for when, owner in due]
            wanted = {owner: when for owner, when in wanted.items() if when > until}
            clock.advance(action)
            assert sorted(fired) == sorted(expected)
            continue
        owner, after = action
        timers.set(owner, None if after is None else clock.now + after)
        wanted.pop(owner, None)
        if after is not None:
            wanted[owner] = clock.now + after


def test_timers_of_a_busy_connection_are_bounded():
    timers: Any
    timers, clock = made(lambda owner, now: timers.set(owner, now + 3600))
    for _ in range(1000):
        timers.set(1, clock.now + 3600)
        timers.set(1, clock.now + 0.01)
        clock.advance(0.025)
    assert len(timers._heap) <= SPARE + 3


def test_an_owner_that_has_ended_is_not_kept():
    timers, clock = made(lambda owner, now: None)
    owner = Owner()
    gone = weakref.ref(owner)
    timers.set(owner, 3600)
    timers.set(owner, 1)
    timers.set(owner, None)
    del owner
    gc.collect()
    assert gone() is None
    clock.advance(3601)
    assert not timers._heap
