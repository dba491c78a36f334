"""Notifications of new versions of zones (RFC 1996)."""

from __future__ import annotations

import asyncio
import secrets
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.constants import (
    CLASS_IN,
    FLAG_AA,
    NOERROR,
    OPCODE_NOTIFY,
    TYPE_SOA,
    rcode_name,
)
from corepy.dns.form_error import FormError
from corepy.dns.names import to_text
from corepy.dns.tsig_exchange import SignedExchange, TSIGError
from corepy.net.server_exchange import answers, exchange_udp
from corepy.plugin import plugin_logger

if TYPE_CHECKING:
    from corepy.dns.tsig import TSIGKey
    from corepy.plugin.server_options import ServerAddress

TIMEOUTS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds to wait for the reply to each attempt.

RFC 1996 section 3.6 proposes 60 seconds and 5 attempts, CoreDNS makes 3 within 6 seconds.
"""

MOST_AT_ONCE: Final = 64
"""Servers that are notified at the same time: a server with many zones starts with all of them."""

LOG: Final = plugin_logger("transfer")

_pack_header = Struct("!HHHHHH").pack
_pack_question = Struct("!HH").pack


class Target(NamedTuple):
    """A server to notify, and how."""

    address: ServerAddress
    source: str = ""
    """The IP address to send from, "" for any."""

    key: TSIGKey | None = None


class Notifier:
    """Notifies servers in tasks of its own; each notification replaces an earlier one."""

    def __init__(self) -> None:
        """Make it outside of an event loop, too."""
        self._tasks: dict[tuple[bytes, Target], asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(MOST_AT_ONCE)

    def notify(self, zone: bytes, target: Target) -> None:
        """Begin to notify a server of a new version of `zone`."""
        earlier = self._tasks.get((zone, target))
        if earlier is not None:
            earlier.cancel()
        name = f"notify {target.address} of {to_text(zone)}"
        task = asyncio.create_task(self._run(zone, target), name=name)
        self._tasks[zone, target] = task
        task.add_done_callback(lambda done: self._forget(zone, target, done))

    def stop(self) -> None:
        """Stop notifying."""
        for task in list(self._tasks.values()):
            task.cancel()

    def _forget(self, zone: bytes, target: Target, task: asyncio.Task[None]) -> None:
        if self._tasks.get((zone, target)) is task:
            del self._tasks[zone, target]

    async def _run(self, zone: bytes, target: Target) -> None:
        """Send until there is a reply, and log a failure."""
        async with self._turn:
            problem = "no reply"
            for timeout in TIMEOUTS:
                try:
                    await _send(zone, target, timeout)
                except TimeoutError:
                    continue
                except OSError as error:
                    problem = error.strerror or str(error)
                    await asyncio.sleep(timeout)
                except (FormError, TSIGError) as error:
                    problem = str(error)
                    break
                else:
                    LOG.debug("Sent notify for zone %r to %s", to_text(zone), target.address)
                    return
            LOG.warning(
                "notify for zone %r was not accepted by %s: %s",
                to_text(zone),
                target.address,
                problem,
            )


async def _send(zone: bytes, target: Target, timeout: float) -> None:
    """Send one notification; returns when the server has accepted it.

    Raises TimeoutError, OSError, FormError, and TSIGError, also for another rcode.
    """
    ident = secrets.randbits(16)
    header = _pack_header(ident, OPCODE_NOTIFY << 11 | FLAG_AA, 1, 0, 0, 0)
    message = header + zone + _pack_question(TYPE_SOA, CLASS_IN)
    is_reply = answers(message, len(message))
    signer = None if target.key is None else SignedExchange(target.key)
    wire = message if signer is None else signer.sign(message)
    reply = await exchange_udp(wire, target.address, is_reply, timeout, target.source)
    if signer is not None:
        reply = signer.verify(reply)
    rcode = reply[3] & 15
    if rcode != NOERROR:
        raise FormError(f"rcode was {rcode_name(rcode)}")
