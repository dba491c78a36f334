"""Compares corepy's replies for each behaviour of an upstream with a table of expected outcomes.

A `Row` describes one behaviour: the replies that clients get through *forward*, the queries that
the upstream receives, and the entry that *cache* keeps. `check` runs a table in one of `CONFIGS`.

The list of upstream queries also shows the duration, because each timeout causes another query.
"udp+" is a query over UDP with EDNS, "tcp" one over TCP without. A list without "~" is complete:
the reply came at once, without a timeout. After "~", only the kinds of queries are compared, in the
order of their first appearance, because their number depends on the machine: the exchange lasted
until a query was repeated, or until its time budget was used up, which the extended error of the
reply shows.

A pause of the machine looks like a lost datagram. Therefore cells that differ from their row are
asked again, in rounds with fewer and fewer concurrent cells. Only a cell that differs in every
round is reported.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from corepy.dns import Request
from corepy.plugin import Handler
from corepy.testing.behaviours import WITHOUT_TCP
from corepy.testing.client_kinds import CLIENTS, Client
from corepy.testing.crossing import Cell, Crossing, Outcome, crossing
from corepy.testing.tls import CERTIFICATE, SERVER_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.testing.crossing import Block
    from corepy.testing.fleet import Place

CONFIGS: Final = ("udp", "tcp", "tls", "cache", "verify", "immediate")
"""The configurations: *forward* alone ("udp", "tcp", "tls"), and *forward* with *cache*.

"udp" forwards over the client's transport, "tcp" over TCP, "tls" over TLS. "cache" serves no stale
answers, "verify" serves them if the upstream has no better one, "immediate" at once.
"""

CROWDS: Final = (32, 8, 4, 2, 1, 1, 1)
"""Number of cells that are asked at once, for each round; the last rounds repeat failed cells.

*cache* keeps some failures for one second only, and a busy machine may need several attempts.
"""

_OPTIONS: Final = {"tcp": "force_tcp", "tls": "tls {}\ntls_servername " + SERVER_NAME}
_CACHES: Final = {
    "cache": "cache",
    "verify": "cache {\nserve_stale 1h verify\nsuccess 9984 3600 2\n}",
    "immediate": "cache {\nserve_stale 1h immediate\nsuccess 9984 3600 2\n}",
}
_LEAST_TTL: Final = {"cache": 5, "verify": 2, "immediate": 2}
_SHORT: Final = 5
"""TTL of a referral or a failure in *cache* (CoreDNS, MinimalDefaultTTL and `servfail`)."""

_MOST_TTL: Final = {"success": 3600, "denial": 1800}
STALE: Final = Outcome(answer=("@ 0 A 192.0.2.77",), flags="aa ra", ede=(3,))
"""The reply of the behaviour "short-lived", served stale (RFC 8767; RFC 8914 section 4.4)."""

NEED_EDNS: Final = ("DO", "client subnet", "unknown option")
"""Clients whose query has another meaning without EDNS."""

_APART: Final = ("unknown option", "client subnet")
"""Clients whose replies *cache* does not share with other clients.

It passes their queries on, or keeps the reply for their network only (RFC 7871 section 7.3).
"""


@dataclass
class Row:
    """The expected outcomes of one behaviour, and the reason `why`.

    `udp` and `asked` apply if the upstream is asked over UDP first. `stream` and `stream_asked`
    apply to clients over TCP, and to configurations in which *forward* uses only TCP or TLS; for
    the latter, `forced` and `forced_asked` override them. `clients` are exceptions for kinds of
    clients. With `shared`, the behaviour does not change corepy's knowledge about the upstream, so
    all clients may use the same one.
    """

    why: str
    udp: Outcome
    asked: str = "udp+"
    stream: Outcome | None = None
    stream_asked: str = "tcp+"
    forced: Outcome | None = None
    forced_asked: str = ""
    clients: dict[str, Outcome] = field(default_factory=dict)
    after_good: dict[str, Outcome] = field(default_factory=dict)
    """Exceptions if the upstream has answered before, as in "verify" and "immediate"."""

    shared: bool = False
    asked_by: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Exceptions to `asked` and `stream_asked`, by kind of client."""

    kept: str = ""
    """Kind and TTL in seconds of the entry that *cache* keeps: "success 60"; empty: no entry."""

    kept_by: dict[str, str] = field(default_factory=dict)
    """Exceptions to `kept`, by kind of client."""

    outdates: bool | None = None
    """Whether the reply replaces or removes a stale answer.

    None: with NOERROR and NXDOMAIN, whether *cache* keeps the reply or not (RFC 8767 section 4;
    CoreDNS, verifyStaleResponseWriter).
    """

    def expected(self, client: str, config: str) -> tuple[Outcome, str]:
        """Return the outcome and the upstream queries, in the form of `asked`."""
        outcome = self.udp
        asked, stream_asked = self.asked_by.get(client, (self.asked, self.stream_asked))
        if config in _OPTIONS and self.forced is not None:
            outcome, asked = self.forced, self.forced_asked
        elif config in _OPTIONS or CLIENTS[client].tcp:
            outcome, asked = self.stream or self.udp, stream_asked
        outcome = self.clients.get(client, outcome)
        if config in ("verify", "immediate"):
            outcome = self.after_good.get(client, outcome)
        return outcome, asked.replace("tcp", "tls") if config == "tls" else asked

    def kept_for(self, client: str) -> str:
        """Return the entry that *cache* keeps for this kind of client, in the form of `kept`."""
        return self.kept_by.get(client, self.kept)


Table = Mapping[str, Row]


def relayed(
    why: str, *answer: str, shared: bool = True, kept: str = "", outdates: bool | None = None,
    **parts: Any,
) -> Row:  # fmt: skip
    """Return the row of a reply that is relayed at once, over all transports."""
    outcome = Outcome(answer=answer, **parts)
    return Row(why, outcome, shared=shared, kept=kept, outdates=outdates)


def _block(config: str, authority: str) -> Block:
    def of(place: Place) -> str:
        to = place.to_tls if config == "tls" else place.to
        option = _OPTIONS.get(config, "").format(authority)
        return f"{_CACHES.get(config, '')}\nforward . {to} {{\nmax_fails 0\n{option}\n}}"

    return of


def with_ttls(outcome: Outcome, config: str) -> Outcome:
    """Return the outcome with the TTLs that *cache* sets.

    Each TTL is the lowest of all, including SOA's MINIMUM, within the limits for the kind of reply
    (CoreDNS; RFC 2308 section 5; RFC 2181 section 8).
    """
    lines = (*outcome.answer, *outcome.authority, *outcome.additional)
    ttls = [int(line.split()[1]) for line in lines]
    ttls += [int(line.split()[-1]) for line in outcome.authority if " SOA " in line]
    if outcome.rcode in ("SERVFAIL", "NOTIMP"):
        return _timed(outcome, _SHORT)
    if not ttls or outcome.rcode not in ("NOERROR", "NXDOMAIN"):
        return outcome
    lowest = min(0 if ttl >= 1 << 31 else ttl for ttl in ttls)
    denial = outcome.rcode == "NXDOMAIN" or (" SOA " in "".join(outcome.authority))
    if not outcome.answer and not denial:
        lowest = _SHORT
    most = _MOST_TTL["denial" if denial else "success"]
    least = 5 if denial else _LEAST_TTL[config]
    return _timed(outcome, max(min(lowest, most), least))


def _timed(outcome: Outcome, ttl: int) -> Outcome:
    def timed(lines: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(re.sub(r"^(\S+) \d+", rf"\1 {ttl}", line) for line in lines)

    return replace(
        outcome,
        answer=timed(outcome.answer),
        authority=timed(outcome.authority),
        additional=timed(outcome.additional),
    )


def _without_ad(outcome: Outcome, client: Client) -> Outcome:
    """Clear AD for a client that did not request it (RFC 6840 section 5.8)."""
    if "ad" in client.flags.split() or (client.opt is not None and client.opt.flags):
        return outcome
    return replace(outcome, flags=outcome.flags.replace(" ad", ""))


def _attempts() -> int:
    """Return the number of tasks in the running event loop in which *cache* refreshes entries."""
    return sum("Refresher" in repr(task.get_coro()) for task in asyncio.all_tasks())


def _from_cache(outcome: Outcome) -> Outcome:
    """Set AA, which old stub resolvers require, and clear the reserved bit, as CoreDNS does."""
    flags = outcome.flags.removeprefix("aa ").removesuffix(" z")
    return replace(outcome, flags=f"aa {flags}".strip())


@dataclass
class Check:
    """Compares the cells of one table in one configuration with the expected outcomes."""

    table: Table
    config: str
    run: Crossing

    def wanted(self, cell: Cell, outcome: Outcome) -> list[list[str]]:
        """Return the expected result of `Crossing.ask`."""
        kind = CLIENTS[cell.client]
        return [outcome.for_client(kind, self.run.names[cell])] * kind.copies

    def first(self, cell: Cell) -> Outcome:
        """Return the expected outcome of the first query."""
        outcome, _ = self.table[cell.behaviour].expected(cell.client, self.config)
        if self.config not in _CACHES:
            return outcome
        outcome = _without_ad(outcome, CLIENTS[cell.client])
        return outcome if cell.client == "unknown option" else with_ttls(outcome, self.config)

    async def forwarded(self, cell: Cell) -> list[str]:
        """Compare the reply and the upstream queries; return the differences."""
        got = await self.run.ask(cell)
        _, asked = self.table[cell.behaviour].expected(cell.client, self.config)
        return [*_compare(got, self.wanted(cell, self.first(cell))), *self._trail(cell, asked)]

    def _trail(self, cell: Cell, asked: str) -> list[str]:
        trail = self.run.trail(cell)
        if asked.startswith("~"):
            trail, asked = list(dict.fromkeys(trail)), asked[1:]
        return [] if trail == asked.split() else [f"asked {trail}, not {asked.split()}"]

    async def cached(self, cell: Cell) -> list[str]:
        """Compare the reply, its cache entry and the reply to a second query."""
        began = time.monotonic()
        found = await self.forwarded(cell)
        kept = self.table[cell.behaviour].kept_for(cell.client)
        before = len(self.run.trail(cell))
        if cell.client in _APART:
            return found
        found += await self._kept(cell, kept)
        second = await self.run.ask(cell, at_once=True)  # the entry may last for a second only
        if not kept:
            again = len(self.run.trail(cell)) > before
            return found if again else [*found, "answered from the cache"]
        outcome = _from_cache(self.first(cell))
        if kept.startswith("failure"):
            outcome = replace(outcome, ede=(*outcome.ede, 13))
        wanted = self.wanted(cell, outcome)
        if len(self.run.trail(cell)) > before:
            found.append("the second query was not answered from the cache")
        return found + _compare(_aged(second, wanted, time.monotonic() - began), wanted)

    async def _kept(self, cell: Cell, kept: str, state: str = "fresh") -> list[str]:
        wanted = f"{state} {kept}" if kept else "miss"
        known = await asyncio.to_thread(self.run.server.call, self._knows, cell)
        words = known[: len(wanted.split())]
        return [] if " ".join(words) == wanted else [f"kept: {known}, not {wanted}"]

    def _knows(self, cell: Cell) -> list[str]:
        """Return state, kind and TTL of the cache entry for a cell's query, as words."""
        request = Request.from_wire(CLIENTS[cell.client].query(self.run.names[cell]).pack())
        known = self._caches[self.run.zones[cell]].explain_state(request)
        return [str(known[key]) for key in ("state", "kept as", "ttl") if key in known]

    def __post_init__(self) -> None:
        handlers: list[Any] = [*self.run.server.plugins(Handler)]
        self._caches = {
            handler.settings.zones[0]: handler for handler in handlers if handler.name == "cache"
        }

    async def stale(self, cells: list[Cell]) -> list[list[str]]:
        """Let answers expire in the cache, then compare the replies and the cache entries."""
        for place in self.run.places.values():
            place.behave("short-lived")
        await asyncio.gather(*map(self.run.ask, cells))
        await asyncio.sleep(2.1)
        for cell, place in self.run.places.items():
            place.behave(cell.behaviour)
        got = await asyncio.gather(*map(self.run.ask, cells))
        while await self._refreshes():  # noqa: ASYNC110 - the tasks belong to another event loop
            await asyncio.sleep(0.05)
        return await asyncio.gather(*map(self._stale, cells, got))

    async def _refreshes(self) -> bool:
        """Return whether the cache is refreshing entries in the background."""
        return bool(await asyncio.to_thread(self.run.server.call, _attempts))

    async def _stale(self, cell: Cell, got: list[list[str]]) -> list[str]:
        row, kept = self.table[cell.behaviour], self.table[cell.behaviour].kept_for(cell.client)
        outcome = self.first(cell)
        if cell.client in _APART:
            return _compare(got, self.wanted(cell, outcome))
        outdates = outcome.rcode in ("NOERROR", "NXDOMAIN")
        if not (outdates if row.outdates is None else row.outdates):
            found = _compare(got, self.wanted(cell, STALE))
            return found + await self._kept(cell, "success", "stale")
        if self.config == "immediate":
            outcome = STALE
        elif kept:
            outcome = _from_cache(outcome)
        found = _compare(got, self.wanted(cell, outcome))
        return found + await self._kept(cell, kept.split(" ")[0])


def _compare(got: list[list[str]], wanted: list[list[str]]) -> list[str]:
    found = [] if len(got) == len(wanted) else [f"{len(got)} replies, not {len(wanted)}"]
    for reply, lines in zip(got, wanted, strict=False):
        if reply != lines:
            found += [f"- {line}" for line in lines if line not in reply][:6]
            found += [f"+ {line}" for line in reply if line not in lines][:6]
            found.append("(in this order)")
    return found


def _aged(got: list[list[str]], wanted: list[list[str]], seconds: float) -> list[list[str]]:
    """Return the replies, with TTLs up to `seconds` below the wanted ones replaced by these."""

    def aged(line: str, other: str) -> str:
        ours, theirs = re.match(_TTL, line), re.match(_TTL, other)
        if ours is None or theirs is None:
            return line
        if 0 <= int(theirs[2]) - int(ours[2]) <= math.ceil(seconds):
            return line[: ours.start(2)] + theirs[2] + line[ours.end(2) :]
        return line

    return [
        [aged(line, other) for line, other in zip(reply, lines, strict=True)]
        if len(reply) == len(lines)
        else reply
        for reply, lines in zip(got, wanted, strict=False)
    ]


_TTL: Final = r"((?:answer|authority|additional): \S+ )(\d+)"


async def _round(
    table: Table, cells: list[Cell], config: str, authority: str, crowd: int
) -> dict[Cell, str]:
    """Return the cells that differ from the table, with the differences as text."""
    shared = {behaviour for behaviour, row in table.items() if row.shared}
    async with crossing(cells, _block(config, authority), shared, crowd) as run:
        check = Check(table, config, run)
        if config in ("verify", "immediate"):
            found = await check.stale(cells)
        else:
            found = await asyncio.gather(
                *map(check.cached if config == "cache" else check.forwarded, cells)
            )
    return {
        cell: "\n  ".join((f"{cell.behaviour} / {cell.client} / {config}", *lines))
        for cell, lines in zip(cells, found, strict=True)
        if lines
    }


def check(table: Table, config: str, folder: Path) -> None:
    """Run every row with every client; raises AssertionError that lists all differences."""
    authority = folder / "ca.pem"
    authority.write_text(CERTIFICATE)
    wrong = dict.fromkeys(
        (
            Cell(behaviour, client)
            for behaviour in table
            if config != "tls" or behaviour not in WITHOUT_TCP
            for client in CLIENTS
        ),
        "",
    )
    for crowd in CROWDS:
        wrong = asyncio.run(_round(table, list(wrong), config, str(authority), crowd))
        if not wrong:
            return
    raise AssertionError("\n".join(wrong.values()))
