"""The proofs for the CA: TXT records that all processes answer (RFC 8555 section 8.4).

The process that orders a certificate writes them to a file in the storage folder. All processes
that share the folder read it when they are asked, so it does not matter which one the CA reaches.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import CLASS_IN, REFUSED, TYPE_TXT
from corepy.dns.records import rr
from corepy.plugin import Cacheability, EndOfChain, FastHandler, in_thread
from corepy.plugin.shared_task import shared_result
from corepy_tls.storage import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer
    from corepy_tls.acme_settings import AcmeSettings

FILE: Final = "challenges.json"

LIFETIME: Final = 3600.0
"""Seconds after which challenges are ignored: a process that was killed has not removed them."""


def write_challenges(storage: Path, proofs: Mapping[bytes, Sequence[str]]) -> None:
    """Replace the challenges in a storage folder; raises OSError."""
    until = time.time() + LIFETIME  # time of day: other processes read it
    found = {name.hex(): list(values) for name, values in proofs.items()}
    write_json(storage / FILE, {"until": until, "proofs": found})


def read_challenges(storage: Path, name: bytes) -> list[str]:
    """Return the current proofs for a wire name; empty without any."""
    found = read_json(storage / FILE)
    now = time.time()  # time of day: another process may have written it
    try:
        is_current = now < float(found["until"]) <= now + LIFETIME
        return [str(it) for it in found["proofs"][name.hex()]] if is_current else []
    except (KeyError, TypeError, ValueError):
        return []


class Reader:
    """Reads proofs in a thread, because the folder may be on a slow or hung file system.

    There is one thread at a time for each name, however many clients ask.
    """

    def __init__(self, storages: Sequence[Path], name: bytes) -> None:
        """Read the proofs for a wire name in all `storages`."""
        self._storages = storages
        self._name = name
        self._task: asyncio.Task[list[str]] | None = None

    async def read(self) -> list[str]:
        """Return the current proofs."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(in_thread(self._read), name="ACME challenges")
        return await shared_result(self._task)

    def _read(self) -> list[str]:
        return [it for storage in self._storages for it in read_challenges(storage, self._name)]


class ChallengeHandler(FastHandler):
    """Answers the queries of the CA, and passes on all others."""

    name: ClassVar[str] = "tls"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, found: Sequence[AcmeSettings]) -> None:
        """`found` gets the settings of all server blocks before the first query."""
        self._found = found
        self._readers: dict[bytes, Reader] | None = None

    def begin_dns(self, request: Request) -> Answer:
        """Answer if the CA has been told to ask for this name."""
        if request.qtype != TYPE_TXT or request.qclass != CLASS_IN:
            return self._pass_on(request)
        if self._readers is None:
            self._readers = {name: Reader(its, name) for name, its in self._by_name().items()}
        reader = self._readers.get(request.name_wire)
        return self._pass_on(request) if reader is None else self._read(request, reader)

    def _by_name(self) -> dict[bytes, list[Path]]:
        found: dict[bytes, list[Path]] = {}
        for settings in self._found:
            for name in settings.challenge_names:
                if settings.storage not in found.setdefault(name, []):
                    found[name].append(settings.storage)
        return found

    def _pass_on(self, request: Request) -> Answer:
        if type(self.next) is EndOfChain:
            return request.error(REFUSED)  # as in a block without this handler
        return self.next.begin_dns(request)

    async def _read(self, request: Request, reader: Reader) -> Reply:
        """Answer with the proofs, or pass the query on if there are none.

        The packet cache must not keep the reply then: there may be a proof soon.
        """
        proofs = await reader.read()
        if proofs:
            return _answer(request, proofs)
        if type(self.next) is EndOfChain:
            return request.error(REFUSED)
        reply = await self.next.serve_dns(request)
        reply.deadline = None
        return reply


def _answer(request: Request, proofs: Sequence[str]) -> Reply:
    owner = request.question[:-4]
    records = [
        rr(owner, TYPE_TXT, 0, bytes((len(it),)) + it.encode("ascii", "replace")) for it in proofs
    ]
    return request.reply(answer=records, authoritative=True)
