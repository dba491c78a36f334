"""Upgrades plain upstreams to the encrypted ones that they designate: DDR (RFC 9462).

Each plain upstream is asked for its designated resolvers, first at the start. One of these replaces
it if it has a certificate for the address of the plain upstream and answers a query. When the
records expire, the encrypted upstream is asked for them, where the reply cannot be forged. While it
is down, the plain upstream is used.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import names
from corepy.dns.constants import CLASS_IN, TYPE_A, TYPE_AAAA, TYPE_SVCB
from corepy.dns.edns import UDP_SIZE, opt_record
from corepy.dns.form_error import FormError
from corepy.plugin import in_thread, plugin_logger
from corepy.plugin.failures import report
from corepy_forward import designations, metrics
from corepy_forward.contexts import import_client, make_context
from corepy_forward.designations import MOST, NAME, Designation, of_family, targets
from corepy_forward.targets import without_repeats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from corepy_forward.attempt import Attempt, UpstreamLike
    from corepy_forward.pool import Pool
    from corepy_forward.targets import Target
    from corepy_forward.upstream import Upstream

TIMEOUT: Final = 5.0
"""Seconds for each query, including the connection to a designated resolver."""

INTERVAL: Final = 1.0
"""Seconds between two checks whether a designated upstream is down."""

LEAST_TTL, MOST_TTL = 60, 86400
"""Bounds of the time, in seconds, after which an upstream is asked again."""

NONE_TTL: Final = 3600
"""Seconds until an upstream that designates no resolver is asked again."""

RETRY: Final = 300
"""Seconds until the next attempt after a failure."""

_HEADER: Final = b"\1\0\0\1\0\0\0\0\0\1"  # flags (RD) and counts: a question and OPT
_TRUNCATED: Final = 0x02

log = plugin_logger("forward")


class Question:
    """A query to one upstream; the `Owner` of its attempts."""

    def __init__(self, name: bytes, qtype: int) -> None:
        self.question = name + qtype.to_bytes(2, "big") + CLASS_IN.to_bytes(2, "big")
        self.body = _HEADER + self.question + opt_record(UDP_SIZE)
        self._reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._attempt: Attempt | None = None

    async def ask(self, upstream: UpstreamLike) -> bytes:
        """Return the reply; raises OSError, also TimeoutError."""
        self._send(upstream, over_tcp=False)
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._reply
        except TimeoutError:
            if self._attempt is not None:
                upstream.cancel(self._attempt)
            raise TimeoutError("i/o timeout") from None

    def _send(self, upstream: UpstreamLike, *, over_tcp: bool) -> None:
        self._attempt = upstream.probe(self, over_tcp)

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """Return the reply, or ask again over TCP if it is truncated."""
        if wire[2] & _TRUNCATED and attempt.proto == "udp":
            self.doubted(attempt, wire, "")
        elif not self._reply.done():
            self._reply.set_result(wire)

    def failed(self, attempt: Attempt, reason: str) -> None:
        """End the query without a reply."""
        if not self._reply.done():
            self._reply.set_exception(OSError(reason))

    def late(self, attempt: Attempt) -> None:
        """Do nothing: the query has its own timeout."""

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Ask again over TCP."""
        if self._reply.done():
            return
        try:
            self._send(attempt.upstream, over_tcp=True)
        except OSError as error:
            self._reply.set_exception(error)

    def guessed(self, attempt: Attempt) -> None:
        """Do nothing: what a forger achieves is a connection that fails."""


class Finding(NamedTuple):
    """The result of a discovery."""

    target: Target | None
    """The upstream that replaces the plain one, if there is one."""

    seconds: float
    """The time until the next one."""


class Discovery:
    """The discovery for the upstreams of one `forward` line."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._settings = pool.settings
        self._plain: list[Target] = []
        self._used: dict[Target, Target] = {}
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._problems: dict[Target, str] = {}

    @property
    def configured(self) -> Sequence[Target]:
        """The upstreams of the Corefile, before any was replaced."""
        return self._plain

    def replace(self, configured: Sequence[Target]) -> None:
        """Use these upstreams, or those that they designate."""
        self._plain = list(configured)
        plain = {target for target in configured if target.transport == "dns"}
        for gone in self._tasks.keys() - plain:
            self._tasks.pop(gone).cancel()
            self._problems.pop(gone, None)
            self._set(gone, None)
        for target in configured:
            if target in plain and target not in self._tasks:
                self._tasks[target] = self._pool.loop.create_task(self._follow(target))
        self._apply()

    def _apply(self) -> None:
        targets = without_repeats(self._used.get(target, target) for target in self._plain)
        if targets != [upstream.target for upstream in self._pool.upstreams]:
            self._pool.retarget(targets)

    async def _follow(self, plain: Target) -> None:
        """Discover again and again, also after an exception, which is a fault of this code."""
        while True:
            try:
                finding = await self._discover(plain)
            except Exception as error:
                report("forward", "task", f"{plain.address}: discovery failed", error)
                finding = Finding(self._used.get(plain), RETRY)
            if finding.target != self._used.get(plain):
                self._set(plain, finding.target)
                self._apply()
            await self._wait(plain, finding.seconds)

    async def _wait(self, plain: Target, seconds: float) -> None:
        """Wait for some time; return to the plain upstream when the designated one is down."""
        loop = self._pool.loop
        until = loop.time() + seconds
        while plain in self._used and loop.time() < until:
            await asyncio.sleep(INTERVAL)
            used = self._upstream_of(self._used[plain])
            if used is not None and used.is_down():
                self._set(plain, None)
                self._apply()
                until = loop.time() + RETRY
        await asyncio.sleep(max(until - loop.time(), 0))

    def _upstream_of(self, target: Target | None) -> Upstream | None:
        return next((it for it in self._pool.upstreams if it.target == target), None)

    def _set(self, plain: Target, target: Target | None) -> None:
        """Record and report the upstream that replaces a plain one."""
        before = self._used.pop(plain, None)
        if before is not None:
            metrics.DESIGNATED.remove(plain.address, before.transport)
        if target is not None:
            self._used[plain] = target
            metrics.DESIGNATED.labels(plain.address, target.transport).value = 1.0
            address = f"{target.transport}://{target.address}"
            how = "verified" if target.is_verified else "not verified"
            log.info("%s: using %s (%s)", plain.address, address, how)
        elif before is not None:
            log.warning("%s: using plain DNS again", plain.address)

    async def _discover(self, plain: Target) -> Finding:
        """Ask for the designated resolvers, and try them."""
        used = self._used.get(plain)
        try:
            wire = await self._ask(used or plain, NAME, TYPE_SVCB)
            found, ttl = designations.read(wire)
        except (OSError, FormError) as error:
            self._report(plain, str(error))
            return Finding(used, RETRY)
        if not found:
            self._problems.pop(plain, None)
            return Finding(None, NONE_TTL)
        target = await self._first_good(plain, found)
        if target is None:
            return Finding(None, RETRY)
        self._problems.pop(plain, None)
        return Finding(target, min(max(ttl, LEAST_TTL), MOST_TTL))

    async def _first_good(self, plain: Target, found: Iterable[Designation]) -> Target | None:
        """Return the first designated upstream that answers."""
        problem = "no transport of the designated resolvers is supported"
        tried = 0
        async for target in self._candidates(plain, found):
            if tried == MOST:
                break
            tried += 1
            try:
                await self._prepare(target)
                await self._ask(target, NAME, TYPE_SVCB)
            except (OSError, ValueError, ImportError) as error:
                problem = f"{target.transport}://{target.address}: {error}"
                continue
            return target
        self._report(plain, problem)
        return None

    async def _candidates(
        self, plain: Target, found: Iterable[Designation]
    ) -> AsyncIterator[Target]:
        is_opportunistic = self._settings.ddr == "opportunistic"
        for designation in found:
            addresses: Sequence[str] = of_family(plain, designation.addresses)
            addresses = addresses or await self._resolve(plain, designation.name)
            for target in targets(plain, designation, addresses, is_opportunistic=is_opportunistic):
                yield target

    async def _resolve(self, plain: Target, name: bytes) -> list[str]:
        """Return the addresses of a designated resolver, of the family of the plain upstream."""
        qtype = TYPE_AAAA if ":" in plain.host else TYPE_A
        try:
            wire = await self._ask(self._used.get(plain) or plain, name, qtype)
            return designations.read_addresses(wire, qtype)
        except (OSError, FormError) as error:
            self._report(plain, f"{names.to_text(name)}: {error}")
            return []

    async def _prepare(self, target: Target) -> None:
        """Make what connections to an upstream need; raises ImportError, OSError, ValueError."""
        contexts = self._settings.tls_contexts
        if target.context_name not in contexts:
            import_client(target.transport)
            contexts[target.context_name] = await in_thread(
                lambda: make_context(
                    self._settings.tls, target.transport, verifies=target.is_verified
                )
            )

    async def _ask(self, target: Target, name: bytes, qtype: int) -> bytes:
        """Return the reply of an upstream, which need not be in use; raises OSError."""
        upstream = self._upstream_of(target)
        if upstream is not None:
            return await Question(name, qtype).ask(upstream)
        upstream = self._pool.trial(target)
        try:
            return await Question(name, qtype).ask(upstream)
        finally:
            upstream.close()

    def _report(self, plain: Target, problem: str) -> None:
        """Log a problem, once while it lasts."""
        if self._problems.get(plain) != problem:
            self._problems[plain] = problem
            log.warning("%s: no designated upstream: %s", plain.address, problem)

    def stop(self) -> None:
        """Stop the discovery; the upstreams stay as they are."""
        for task in self._tasks.values():
            task.cancel()
        for plain in list(self._used):
            target = self._used.pop(plain)
            metrics.DESIGNATED.remove(plain.address, target.transport)
