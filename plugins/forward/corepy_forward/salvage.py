"""Replies that are not the answer but better than nothing: truncated, bare, unreadable, unproven.

Each starts what may bring a better one. What is worth keeping is given to the clients when that
fails or takes too long.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy.dns import Reply
from corepy.dns.constants import HEADER_SIZE, NOERROR, NXDOMAIN, rcode_name
from corepy_forward.asking import Asking
from corepy_forward.capabilities import MOST_TCP_PATIENCE
from corepy_forward.problems import MALFORMED

if TYPE_CHECKING:
    from corepy_forward.attempt import Attempt
    from corepy_forward.upstream import Upstream

_TC = 0x02


class Salvage(Asking):
    """What an exchange does with such replies; see the module."""

    __slots__ = ()

    def _note(self, attempt: Attempt, reason: str) -> None:
        """Write down for the log what became of an attempt."""
        raise NotImplementedError

    def _end(self) -> None:
        """End with the reply that there is."""
        raise NotImplementedError

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Ask over TCP whether a reply is genuine; without TCP take it, as from any upstream."""
        if self.done:
            attempt.upstream.cancel(attempt)
            return
        upstream, now = attempt.upstream, time.monotonic()
        if upstream.tcp.is_dead(now):
            upstream.proofs.lacks(lacks)
            upstream.arrived(attempt, wire, now)
            return
        self.detours.lacked[attempt] = lacks
        self._open.remove(attempt)
        self._move(attempt, now)

    def _waits_for_tcp(self, upstream: Upstream) -> bool:
        """Whether there is no reply yet over TCP."""
        return any(each.upstream is upstream and each.proto == "tcp" for each in self._open)

    def _truncated(self, attempt: Attempt, reply: Reply) -> None:
        """Ask for the whole answer; the truncated one is for clients that can ask over TCP."""
        upstream, now = attempt.upstream, time.monotonic()
        self.detours.has_heard = True
        if not self.for_tcp:
            self._keep(attempt, reply)
        if not upstream.tcp.is_dead(now):
            self._move(attempt, now)
            self._hold(attempt, upstream.tcp.patience)
        elif self._ask_large(upstream, now, attempt.number):
            self._hold(attempt, upstream.tcp.patience)
        elif not self.for_tcp:
            self._end()
        else:
            self._move(attempt, now)  # nothing else is left

    def _bare(self, attempt: Attempt, wire: bytes) -> None:
        """Deal with a reply that is nothing but a header: it does not say what it answers.

        An error is better than none and ends the matter unless another upstream can be asked, or
        the same one over TCP, where nobody else can have sent it.
        """
        rcode, now = wire[3] & 15, time.monotonic()
        if self._ask_plainer(attempt, rcode, None):
            return
        self.detours.has_heard = True
        self._note(attempt, f"answered {rcode_name(rcode)} in a bare header")
        if rcode not in (NOERROR, NXDOMAIN):
            header = wire[2:4] + b"\0\1" + bytes(6)
            self._keep(attempt, Reply(b"\0\0" + header + self.question))
        if self._retry(now, new_only=True):
            return
        upstream = attempt.upstream
        if attempt.proto == "udp" and not upstream.tcp.is_dead(now):
            self._move(attempt, now)
            self._hold(attempt, upstream.tcp.patience)
        elif not self._open:
            self._end()

    def _malformed(self, attempt: Attempt, wire: bytes) -> None:
        """Ask again for a reply that cannot be read, over TCP if it was UDP that cut it."""
        attempt.upstream.dropped("malformed")
        self.detours.has_heard = True
        now = time.monotonic()
        if attempt.proto == "udp" and not attempt.upstream.tcp.is_dead(now):
            if wire[2] & _TC and not self.for_tcp:
                end = HEADER_SIZE + len(self.question)
                self._keep(attempt, Reply(wire[:6] + bytes(6) + wire[12:end]))
                self._hold(attempt, attempt.upstream.tcp.patience)
            self._move(attempt, now)
        else:
            self._open.append(attempt)
            self.failed(attempt, MALFORMED)

    def _keep(self, attempt: Attempt, reply: Reply) -> None:
        """Keep a reply that is better than none."""
        self.reply, self.upstream = reply, attempt.upstream

    def _hold(self, attempt: Attempt, seconds: float) -> None:
        """Let clients wait for something better than what is kept, but no longer than that."""
        self._pool.loop.call_later(seconds, self._release, attempt)

    def _release(self, attempt: Attempt) -> None:
        """Give up waiting for something better."""
        if self.done:
            return
        if attempt.proto == "tcp" and attempt in self._open:
            now, upstream = time.monotonic(), attempt.upstream
            heard = 0.0 if attempt.link is None else attempt.link.heard
            if heard > now - MOST_TCP_PATIENCE and heard > self.detours.moved.get(attempt, 0.0):
                self._hold(attempt, upstream.tcp.patience)  # an answer is coming, perhaps ours
                return
            upstream.tcp.failed(now)
        if not self.for_tcp or self.reply is not None:
            self._end()
