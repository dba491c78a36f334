"""The sampling CPU profiler: a timer that measures CPU time interrupts the program.

The kernel sends SIGPROF each time the process has used another 10 ms of CPU time (ITIMER_PROF), and
the interpreter calls the handler between two instructions of the main thread, so a sample is where
the time is spent. An idle server is not interrupted at all. A thread that looks at the stacks of
the others would work in any thread, but sees them only where they release the interpreter's lock:
of a loop that spends a quarter of its time in system calls it found 95 % of the samples there.

Each sample has the CPU time since the one before. The sum is right, even if the kernel's clock tick
is coarse or a long call into C delays the handler.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy_pprof.frames import RawStack, raw_stack

if TYPE_CHECKING:
    from types import FrameType

PERIOD: Final = 0.01
"""Seconds of CPU time between two samples, as in Go; the kernel rounds it up to its clock tick."""

STALLED: Final = 100
"""Samples without a turn of the event loop after which samples become rare.

Each signal also writes a byte to the loop's wake-up socket. If the loop does not read it and it is
full, SIGTERM could not be delivered.
"""

STALLED_FACTOR: Final = 10
TURN: Final = 0.1
"""Seconds between two checks that the event loop turns."""

MAX_STACKS: Final = 4000
"""Different stacks that are kept; the time of others is counted without a stack."""

MAX_EVENTS: Final = 40_000
"""Samples that a timeline keeps."""

OTHER: Final = RawStack((), ())
"""Stands for stacks that are not known."""


class ProfilerUnavailable(Exception):
    """The program cannot be profiled; the message has the reason."""


class Event(NamedTuple):
    """One sample of a timeline."""

    at: int
    """Nanoseconds since the start."""

    used: int
    """Nanoseconds of CPU time since the sample before."""

    thread: str
    stack: RawStack


class CpuProfiler:
    """Samples all threads between `start` and `stop`, which the main thread calls."""

    def __init__(self, *, keeps_order: bool = False) -> None:
        """With `keeps_order`, `events` has all samples in the order of time."""
        self.stacks: dict[tuple[str, RawStack], list[int]] = {}
        """Number of samples and nanoseconds by thread and stack."""

        self.events: list[Event] = []
        self.started = self.ended = 0
        """Nanoseconds of the monotonic clock."""

        self.failures = 0
        """Samples that raised an exception."""

        self._keeps_order = keeps_order
        self._main = threading.main_thread().ident
        self._process = self._thread = 0
        self._others: dict[int, int] = {}
        self._samples_of_turn = 0
        self._active = False
        self._turn: asyncio.TimerHandle | None = None
        self._before: Any = signal.SIG_DFL
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Start; raise `ProfilerUnavailable` if the process has no use for SIGPROF now."""
        if threading.get_ident() != self._main:
            raise ProfilerUnavailable("the event loop does not run in the main thread")
        if signal.getsignal(signal.SIGPROF) not in (signal.SIG_DFL, signal.SIG_IGN):
            raise ProfilerUnavailable("another profiler uses SIGPROF")
        self.started = time.monotonic_ns()
        self._process, self._thread = time.process_time_ns(), time.thread_time_ns()
        self._others = {ident: _cpu_of(ident) for ident in self._other_threads()}
        self._before = signal.getsignal(signal.SIGPROF)
        self._loop = asyncio.get_running_loop()
        # The kernel interrupts the thread that uses the CPU. If it is not the main thread, the
        # loop's wake-up socket wakes that one. System calls of C libraries are restarted.
        self._loop.add_signal_handler(signal.SIGPROF, _do_nothing)
        signal.signal(signal.SIGPROF, self._interrupted)
        self._active = True
        self._turned()
        signal.setitimer(signal.ITIMER_PROF, PERIOD)

    def stop(self) -> None:
        """Stop; a signal that is still pending must not end the process."""
        if not self._active:
            return
        self._active = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # discards a pending signal
        self._loop.remove_signal_handler(signal.SIGPROF)
        signal.signal(signal.SIGPROF, self._before)
        if self._turn is not None:
            self._turn.cancel()
        self.ended = time.monotonic_ns()

    def _turned(self) -> None:
        self._samples_of_turn = 0
        self._turn = self._loop.call_later(TURN, self._turned)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        """Take a sample, and set the timer again: there is never more than one signal pending.

        An exception would surface in the code that was interrupted.
        """
        try:
            self._sample(frame)
        except Exception:
            self.failures += 1
        if self._active:
            is_stalled = self._samples_of_turn > STALLED
            signal.setitimer(signal.ITIMER_PROF, PERIOD * (STALLED_FACTOR if is_stalled else 1))

    def _sample(self, frame: FrameType | None) -> None:
        self._samples_of_turn += 1
        process, thread = time.process_time_ns(), time.thread_time_ns()
        used, own = process - self._process, thread - self._thread
        self._process, self._thread = process, thread
        if own > 0:
            self._add("", raw_stack(frame), own)
        if used - own > used // 8:
            self._sample_others(used - own)

    def _sample_others(self, used: int) -> None:
        """Attribute `used` nanoseconds to the other threads by what each has used."""
        names = {it.ident: it.name for it in threading.enumerate()}
        threads = self._other_threads()
        for ident, frame in threads.items():
            total = _cpu_of(ident)
            own = total - self._others.get(ident, 0)
            self._others[ident] = total
            if own > 0:
                used -= own
                self._add(names.get(ident, "") or f"thread {ident}", raw_stack(frame), own)
        for ident in self._others.keys() - threads.keys():
            del self._others[ident]  # the kernel uses the number again
        if used > 0:
            self._add("ended or without Python code", OTHER, used)

    def _other_threads(self) -> dict[int, FrameType]:
        frames = sys._current_frames()  # the documented way to the stacks of other threads
        return {ident: frame for ident, frame in frames.items() if ident != self._main}

    def _add(self, thread: str, stack: RawStack, used: int) -> None:
        key = thread, stack
        known = self.stacks.get(key)
        if known is None:
            if len(self.stacks) >= MAX_STACKS:
                key = thread, OTHER
            known = self.stacks.setdefault(key, [0, 0])
        known[0] += 1
        known[1] += used
        if self._keeps_order and len(self.events) < MAX_EVENTS:
            self.events.append(Event(time.monotonic_ns() - self.started, used, *key))


def _do_nothing() -> None:
    """Be the loop's handler of SIGPROF, which runs after the interpreter's."""


def _cpu_of(ident: int) -> int:
    """Return the CPU time of a thread of `sys._current_frames` in nanoseconds; 0 on macOS.

    Such a thread has not ended: it needs the interpreter's lock, which the caller has, to end.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0
    return time.clock_gettime_ns(time.pthread_getcpuclockid(ident))
