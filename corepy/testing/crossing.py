"""Crosses behaviours of upstreams with kinds of clients: every pair through one corepy server.

    async with crossing(cells, block) as run:
        await run.ask(cell)

Each cell has a name of its own, and an upstream and a server block of its own, so that nothing that
corepy learns about one upstream changes the outcome of another cell; cells of a behaviour that
teaches nothing may share these. Cells may be asked at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from corepy.testing.clients import CLIENTS, Client
from corepy.testing.fleet import Fleet, Place
from corepy.testing.message import (
    EDE,
    FLAGS,
    RCODES,
    Message,
    Opt,
    Options,
    name,
    pack_record,
    record,
    show,
)
from corepy.testing.message import parse as parse_message
from corepy.testing.server import TestServer, serve

TIMEOUT: Final = 30.0
"""Seconds after which a client that got no reply fails."""

PACE: Final = 0.5
"""Seconds after which a cell that waits makes room for the next."""

Block = Callable[[Place], str]
"""Returns the directives of the server block for an upstream."""


class Cell(NamedTuple):
    """One pair of behaviour and client."""

    behaviour: str
    client: str


@dataclass(frozen=True)
class Outcome:
    """The reply that a client with EDNS and room for everything gets.

    `flags` are those beside QR, and RD and CD, which are the query's. Records are lines as in
    `corepy.testing.message`. `ede` are extended errors, `options` other EDNS options.
    """

    rcode: str = "NOERROR"
    answer: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    flags: str = "ra"
    ede: tuple[int, ...] = ()
    options: Options = ()

    def for_client(self, client: Client, asked: bytes) -> list[str]:
        """Return the lines that `describe` makes of the reply to this client.

        OPT is there if the query has one, with the client's size and DO (RFC 6891 section 6.1.1,
        RFC 3225 section 3; the size is as CoreDNS's SizeAndDo). Without OPT the upper bits of an
        rcode cannot be told, so it is SERVFAIL. Records that do not fit are left out from the end,
        and TC is set (RFC 2181 section 9).
        """
        query = client.query(asked)
        flags = sum(FLAGS[flag] for flag in self.flags.split())
        rcode = RCODES[self.rcode] if client.opt is not None else min(RCODES[self.rcode], 16)
        message = Message(
            flags=FLAGS["qr"] | flags | query.flags & (FLAGS["rd"] | FLAGS["cd"]),
            rcode=RCODES["SERVFAIL"] if rcode == 16 and client.opt is None else rcode,
            question=query.question,
            answer=[record(line, asked) for line in self.answer],
            authority=[record(line, asked) for line in self.authority],
            additional=[record(line, asked) for line in self.additional],
        )
        if client.opt is not None:
            extended = tuple((EDE, code.to_bytes(2, "big")) for code in self.ede)
            message.opt = Opt(client.opt.size, client.opt.flags, 0, (*extended, *self.options))
        return describe(_cut(message, client.limit), asked)


def _cut(message: Message, limit: int) -> Message:
    """Leave records out from the end until the message fits."""
    asked = message.question[0] if message.question else None
    size = len(replace(message, answer=[]).pack())
    for number, item in enumerate(message.answer):
        size += len(pack_record(item, asked))
        if size > limit:
            flags = message.flags | FLAGS["tc"]
            return replace(message, answer=message.answer[:number], flags=flags)
    return message


def describe(message: Message, asked: bytes) -> list[str]:
    """Return all of a message but its ID, a line for each of its parts; of an extended error only
    the number.
    """
    rcodes = {number: text for text, number in RCODES.items()}
    flags = [flag for flag, bit in FLAGS.items() if message.flags & bit]
    lines = [
        f"rcode {rcodes.get(message.rcode, message.rcode)}, opcode {message.opcode}",
        f"flags {' '.join(flags)}",
        f"question {message.question}",
    ]
    for section in "answer", "authority", "additional":
        lines += [f"{section}: {show(item, asked)}" for item in getattr(message, section)]
    if message.opt is not None:
        size, bits, version, options = message.opt
        lines.append(f"OPT: size {size}, flags {bits:04x}, version {version}")
        lines += [f"option {code}: {_option(code, data)}" for code, data in options]
    return lines


def _option(code: int, data: bytes) -> str:
    return (data[:2] if code == EDE else data).hex()


@dataclass
class Crossing:
    """All cells of one configuration; made by `crossing`."""

    server: TestServer
    zones: dict[Cell, str]
    places: dict[Cell, Place]
    names: dict[Cell, bytes]
    crowd: asyncio.Semaphore

    async def ask(self, cell: Cell) -> list[list[str]]:
        """Return what each copy of the client's query got, see `describe`; an exception or a
        malformed message is a line, too.
        """
        async with self.crowd:
            asking = asyncio.create_task(self._ask(cell))
            await asyncio.wait((asking,), timeout=PACE)
        return await asking

    async def _ask(self, cell: Cell) -> list[list[str]]:
        asked = self.names[cell]
        try:
            async with asyncio.timeout(TIMEOUT):
                replies = await CLIENTS[cell.client].ask(self.server.address, asked)
            return [describe(parse_message(reply), asked) for reply in replies]
        except (ValueError, OSError, EOFError, KeyError) as problem:
            return [[repr(problem)]]

    def trail(self, cell: Cell) -> list[str]:
        """Return how the upstream was asked so far: "udp+", "udp", "tcp+", ...; + is with EDNS."""
        seen, name = self.places[cell].seen, self.names[cell]
        return [
            query.proto + "+" * (query.message.opt is not None)
            for query in seen
            if query.name == name
        ]


@asynccontextmanager
async def crossing(
    cells: Iterable[Cell], block: Block, shared: Container[str] = (), crowd: int = 32
) -> AsyncIterator[Crossing]:
    """Start the upstreams and one corepy server.

    All cells of a behaviour in `shared` have one upstream; `crowd` are asked at once.
    """
    blocks: dict[str, tuple[str, Place]] = {}
    zones, places, names = {}, {}, {}
    with Fleet() as fleet:
        for number, cell in enumerate(cells):
            key = cell.behaviour if cell.behaviour in shared else f"{number}"
            if key not in blocks:
                blocks[key] = f"zone{len(blocks)}.example.", fleet.add(cell.behaviour)
            zones[cell], places[cell] = blocks[key]
            names[cell] = name(f"host{number}.{zones[cell]}")
        text = "".join(
            f"{zone}:0 {{\nbind 127.0.0.1\n{block(place)}\n}}\n" for zone, place in blocks.values()
        )
        with serve(text) as server:
            yield Crossing(server, zones, places, names, asyncio.Semaphore(crowd))
