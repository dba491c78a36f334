"""Checks that a query sent to the server's own addresses gets an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corepy.net.sockets import own_address
from corepy.server.contain.failure_report import report_background

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.server.listen.endpoint import Endpoint
    from corepy.server.listen.query_listener import Listener

    SocketAddress = tuple[str | int, ...]

ATTEMPT_TIMEOUT = 1.0


async def unanswered(
    endpoints: Iterable[Endpoint], timeout: float, attempt: float = ATTEMPT_TIMEOUT
) -> list[str]:
    """Query all listeners of `endpoints`; return those that did not answer.

    Each has `timeout` seconds to answer, and is queried again every `attempt` seconds; at an
    address with several sockets the next query may reach another one. An endpoint whose address is
    on no interface is skipped, and so is a listener for which there is no client
    (`Listener.is_checkable`).
    """
    questions = [
        (f"{listener.protocol} {endpoint.label}", _answers(listener, address, timeout, attempt))
        for endpoint in endpoints
        if (address := own_address(endpoint.sockets[0])) is not None
        for listener in endpoint.listeners
        if listener.is_checkable
    ]
    answers = await asyncio.gather(*(question for _, question in questions))
    return [name for (name, _), answered in zip(questions, answers, strict=True) if not answered]


async def _answers(
    listener: Listener, address: SocketAddress, timeout: float, attempt: float
) -> bool:
    """Repeat the query until there is an answer or `timeout` seconds are over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while (left := end - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(attempt, left)):
                if await listener.check(address):
                    return True
        except (TimeoutError, OSError):
            await asyncio.sleep(0.01)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # the listener may be that of a third party
            report_background(error, f"{listener.label}: check of the listener failed")
            return False
    return False
