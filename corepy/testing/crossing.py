"""Crosses behaviours of upstreams with kinds of clients: runs all pairs through one corepy server.

    async with crossing(cells, block) as run:
        await run.ask(cell)

Each cell has its own QNAME. It also has its own upstream and server block, because corepy's
knowledge about an upstream must not change the outcome of another cell. Cells whose behaviour does
not change that knowledge may share an upstream and a block. Cells may be asked concurrently.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from corepy.testing.client_kinds import CLIENTS, Client
from corepy.testing.fleet import Fleet, Place
from corepy.testing.inprocess import TestServer, serve
from corepy.testing.wire_message import (
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
from corepy.testing.wire_message import parse as parse_message

TIMEOUT: Final = 30.0
"""Seconds after which a client without a reply fails."""

PACE: Final = 0.5
"""Seconds after which a waiting cell no longer counts as one of the concurrent cells."""

Block = Callable[[Place], str]
"""Returns the directives of the server block for an upstream."""


class Cell(NamedTuple):
    """One pair of behaviour and client."""

    behaviour: str
    client: str


@dataclass(frozen=True)
class Outcome:
    """The reply to a client with EDNS and an unlimited size.

    `flags` excludes QR, and RD and CD, which are copied from the query. Records are lines as in
    `corepy.testing.wire_message`. `ede` lists the codes of extended errors, `options` other EDNS
    options.
    """

    rcode: str = "NOERROR"
    answer: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    flags: str = "ra"
    ede: tuple[int, ...] = ()
    options: Options = ()

    def for_client(self, client: Client, asked: bytes) -> list[str]:
        """Return the expected reply to this client, as the lines of `describe`.

        It has an OPT record if the query has one, with the client's size and DO (RFC 6891 section
        6.1.1, RFC 3225 section 3; the size follows CoreDNS's SizeAndDo). Without OPT, an rcode with
        upper bits cannot be expressed and becomes SERVFAIL. Records that do not fit are removed
        from the end, and TC is set (RFC 2181 section 9).
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
    """Remove answers from the end until the message fits in `limit` bytes; set TC if any were."""
    asked = message.question[0] if message.question else None
    size = len(replace(message, answer=[]).pack())
    for number, item in enumerate(message.answer):
        size += len(pack_record(item, asked))
        if size > limit:
            flags = message.flags | FLAGS["tc"]
            return replace(message, answer=message.answer[:number], flags=flags)
    return message


def describe(message: Message, asked: bytes) -> list[str]:
    """Return the parts of a message as lines, without its ID and the texts of extended errors."""
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
    """A running server with the cells of one configuration; made by `crossing`."""

    server: TestServer
    zones: dict[Cell, str]
    places: dict[Cell, Place]
    names: dict[Cell, bytes]
    crowd: asyncio.Semaphore

    async def ask(self, cell: Cell, *, at_once: bool = False) -> list[list[str]]:
        """Return the reply to each copy of the client's query, as the lines of `describe`.

        The query waits until few enough cells are asked, except `at_once`. An exception or a
        malformed reply is returned as one line.
        """
        if at_once:
            return await self._ask(cell)
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
        """Return the transports of the upstream's queries: "udp+", "tcp", ...; + is with EDNS."""
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

    All cells of a behaviour in `shared` use one upstream; at most `crowd` cells are asked at once.
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
