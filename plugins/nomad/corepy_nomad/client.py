"""`NomadClient`: requests to Nomad's HTTP API, at one of several addresses.

A request goes to the address that answered the last one, and after a failure to the others in turn.
All failures are `OSError` with a text for the operator that begins with the address and never has
the token. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlencode

from corepy.http.http_session import HTTPSession
from corepy_nomad.errors import NomadError, explained
from corepy_nomad.responses import InstanceList, NameList

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from corepy.http.http_client import HTTPTarget
    from corepy.http.http_session import StreamedResponse
    from corepy_nomad.access import Access, Address
    from corepy_nomad.responses import Instance

TIMEOUT: Final = 5.0
"""Seconds for a connection, for a response after Nomad may answer, and between two portions."""

TIMEOUT_OF_SEVERAL: Final = 2.0
"""As `TIMEOUT` for a response, if there are other addresses, so that a query gets their answer."""

LONGEST_RESPONSE: Final = 300.0
"""Seconds for a whole response, so that one that trickles ends, but a long one is read on a busy
machine."""

JITTER: Final = 16
"""Nomad makes a wait longer by at most this part of it."""

LARGEST: Final = 64 << 20
"""Bytes of a response."""

PORTION: Final = 8192
"""Bytes that are decoded in one turn of the event loop, of all responses together."""

PAUSE: Final = 1.0
"""Seconds for which requests fail at once after no address could be reached."""

LARGEST_ERROR: Final = 4096
LONGEST_REASON: Final = 600
LARGEST_INDEX: Final = (1 << 64) - 1


class _Answered(NamedTuple):
    """A successful response, and the number of its address."""

    response: StreamedResponse
    number: int


class Names(NamedTuple):
    """The names of the services in a namespace."""

    reached: int
    """The index of Nomad's state, 0 if there is none."""

    found: NameList | None
    """None if nothing has changed since the index of the request."""

    answered: float
    """The monotonic time at which the response began."""


class NomadClient:
    """A client for the addresses of one Nomad cluster."""

    def __init__(
        self,
        addresses: Sequence[Address],
        access: Access,
        tls: Callable[[], Awaitable[ssl.SSLContext]] | None = None,
        server_name: str | None = None,
    ) -> None:
        """`tls` returns the context for a new connection to an https address."""
        self._addresses = addresses
        self._access = access
        self._sessions = [
            HTTPSession(
                it.target,
                tls=tls,
                server_name=server_name,
                connect_timeout=TIMEOUT,
                socket_path=it.socket_path,
            )
            for it in addresses
        ]
        self._decoding = asyncio.Lock()
        self._current = 0
        self._unreachable: tuple[float, str] = (0.0, "")
        """Until when requests fail at once, and why."""

    @property
    def address(self) -> str:
        """The address in use."""
        return str(self._addresses[self._current])

    def close(self) -> None:
        """Close the idle connections."""
        for session in self._sessions:
            session.close()

    # -- the endpoints

    async def probe(self) -> None:
        """Ask the agent about itself, which shows whether it answers and knows the token.

        The right to read the answer is not needed.
        """
        try:
            answered = await self._get("/v1/agent/self", {})
        except NomadError as error:
            if error.lacks_permission:
                return
            raise
        answered.response.close()

    async def names(self, namespace: str, index: int = 0, wait: float = 0.0) -> Names:
        """Return the names of the services in a namespace.

        With an index, Nomad answers as soon as its state is later, at the latest after about `wait`
        seconds (api-docs: blocking queries). Raises `OSError`, also for a malformed response.
        """
        parameters = {"namespace": namespace}
        if index:
            parameters |= {"index": str(index), "wait": f"{wait * 1000:.0f}ms"}
        longer = wait * (1 + 1 / JITTER) if index else 0.0
        answered = await self._get("/v1/services", parameters, longer)
        began = time.monotonic()
        reached = _index_of(answered.response)
        found = None if index and reached == index else NameList(namespace)
        await self._read(answered, found)
        return Names(reached, found, began)

    async def instances(self, namespace: str, name: str) -> tuple[Sequence[Instance], int]:
        """Return the instances of a service, and the number of those that are unusable.

        Raises `OSError`, also for a malformed response.
        """
        parameters = {"namespace": namespace}
        if self._access.filter:
            parameters["filter"] = self._access.filter
        answered = await self._get(f"/v1/service/{quote(name, safe='')}", parameters)
        found = InstanceList()
        await self._read(answered, found)
        return found.instances, found.unusable

    # -- requests

    async def _get(
        self, path: str, parameters: Mapping[str, str], longer: float = 0.0
    ) -> _Answered:
        """Return the successful response to a request, from any of the addresses.

        Nomad may wait for `longer` seconds before it answers.
        """
        timeout = longer + (TIMEOUT if len(self._sessions) == 1 else TIMEOUT_OF_SEVERAL)
        region = {"region": self._access.region} if self._access.region else {}
        query = urlencode({**parameters, **region})
        target = f"{path}?{query}" if query else path
        until, reason = self._unreachable
        if time.monotonic() < until:
            raise OSError(reason)
        failures: list[OSError] = []
        for _ in self._sessions:
            current = self._current
            try:
                return _Answered(await self._get_from(current, target, timeout), current)
            except NomadError as error:
                if error.is_about_request:
                    raise
                failures.append(error)
            except OSError as error:
                address = self._addresses[current]
                failures.append(OSError(f"{address}: {error.strerror or error}"))
            self._fail_over(current)
        raise self._joined(failures)

    def _joined(self, failures: Sequence[OSError]) -> OSError:
        """Return one error for the failures of all addresses."""
        reason = "; ".join(map(str, failures))[:LONGEST_REASON]
        answered = [it for it in failures if isinstance(it, NomadError)]
        if answered:
            return NomadError(reason, answered[0].status, answered[0].retry_after)
        self._unreachable = time.monotonic() + PAUSE, reason
        return OSError(reason)

    def _fail_over(self, number: int) -> None:
        """Use the next address from now on, unless another request has done so."""
        if number == self._current:
            self._current = (number + 1) % len(self._sessions)

    async def _get_from(self, number: int, target: str, timeout: float) -> StreamedResponse:
        session = self._sessions[number]
        headers = self._headers(session.target)
        response = await session.request("GET", target, headers, timeout=timeout)
        if response.status == 200:
            return response
        async with response:
            try:
                content = await response.read_all(LARGEST_ERROR, TIMEOUT)
            except OSError:  # the status is enough
                content = b""
        reason = explained(response.status, content, self._access)
        message = f"{self._addresses[number]}: {reason}"
        raise NomadError(message, response.status, response.retry_after)

    def _headers(self, target: HTTPTarget) -> list[tuple[str, str]]:
        """Return the credentials; a user name and password in the URL have precedence."""
        access = self._access
        headers = [("X-Nomad-Token", access.token)] if access.token else []
        if access.authorization and not target.authorization:
            headers.append(("Authorization", access.authorization))
        return headers

    async def _read(self, answered: _Answered, found: NameList | InstanceList | None) -> None:
        """Read a whole response into `found`; raises `OSError`."""
        try:
            async with answered.response, asyncio.timeout(LONGEST_RESPONSE):
                await self._read_into(found, answered.response)
        except TimeoutError as error:
            reason = str(error) or f"the response takes more than {LONGEST_RESPONSE:g} s"
        except OSError as error:
            reason = str(error)
        except ValueError as error:
            reason = f"the response is malformed: {error}"
        else:
            return
        self._fail_over(answered.number)
        raise OSError(f"{self._addresses[answered.number]}: {reason}"[:LONGEST_REASON])

    async def _read_into(
        self, found: NameList | InstanceList | None, response: StreamedResponse
    ) -> None:
        """Read a response to its end; raises ValueError if it is malformed, or `OSError`."""
        size = 0
        while data := await response.read(TIMEOUT):
            size += len(data)
            if size > LARGEST:
                raise ValueError(f"it has more than {LARGEST} bytes")
            if found is not None:
                await self._feed(found, data)
        if found is not None:
            found.finish()

    async def _feed(self, found: NameList | InstanceList, data: bytes) -> None:
        """Decode data in portions of about a millisecond; raises ValueError."""
        for at in range(0, len(data), PORTION):
            async with self._decoding:
                found.feed(data[at : at + PORTION])
                await asyncio.sleep(0)


def _index_of(response: StreamedResponse) -> int:
    """Return the index of Nomad's state, 0 if the response has none that can be used."""
    text = response.headers.get("x-nomad-index", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return 0
    index = int(text)
    return index if index <= LARGEST_INDEX else 0
