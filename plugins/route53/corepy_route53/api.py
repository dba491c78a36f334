"""The client of the Route 53 API, version 2013-04-01: lists the record sets of hosted zones."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from corepy.http.http_client import HTTPTarget
from corepy.net.backoff import Backoff
from corepy.zone.polled_api import LARGEST_PAGE, PollError
from corepy.zone.polled_records import add_pages
from corepy_route53.api_errors import APIError, error_of
from corepy_route53.credentials import CredentialChain
from corepy_route53.endpoints import partition_of
from corepy_route53.record_sets import read_page
from corepy_route53.requesting import send, session_for, target_of
from corepy_route53.signing import Scope, SignedRequest, query_text, sign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.http.http_session import HTTPSession
    from corepy.zone.polled_api import PolledZone, ZoneIntake
    from corepy_route53.options import Options
    from corepy_route53.record_sets import Cursor
    from corepy_route53.requesting import Response

PAGE: Final = 300
"""Record sets of a page, the most that the API returns."""

ATTEMPTS: Final = 5
"""Requests for one page, if the API is overloaded or the connection fails."""

FIRST_PAUSE: Final = 0.5
LAST_PAUSE: Final = 20.0
"""Seconds between these attempts; the API takes five requests a second from an account."""

TIMEOUT: Final = 30.0
"""Seconds for each step of a request."""


class Route53Client:
    """Lists hosted zones with the credentials of one account (`PolledClient`)."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._credentials = CredentialChain(options)
        self._session: HTTPSession | None = None

    async def fetch(self, zone: PolledZone, intake: ZoneIntake) -> None:
        """Add all records of a hosted zone; raises `OSError`."""
        repeated = "the list of record sets does not advance"
        await add_pages(intake, partial(self._page, zone), read_page, problem=repeated)

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()

    async def _page(self, zone: PolledZone, cursor: Cursor | None) -> bytes:
        """Return one page, after more attempts if need be."""
        backoff = Backoff(FIRST_PAUSE, LAST_PAUSE)
        failure: OSError = PollError("no attempt")
        for attempt in range(ATTEMPTS):
            try:
                return await self._list(zone, cursor)
            except APIError as error:
                if error.is_about_keys and attempt == 0:
                    self._credentials.forget()  # another version may be in a file
                elif not error.may_pass:
                    raise
                failure = error
            except PollError:
                raise
            except OSError as error:
                failure = error
            if cursor is None and not isinstance(failure, APIError):
                break  # an API that is away is tried again by the next list
            wait = getattr(failure, "retry_after", None) or 0.0
            if attempt < ATTEMPTS - 1:
                await asyncio.sleep(min(max(backoff.next_delay(), wait), LAST_PAUSE))
        raise failure

    async def _list(self, zone: PolledZone, cursor: Cursor | None) -> bytes:
        credentials = await self._credentials.get()
        target, region = self._endpoint()
        path = f"{target.path.rstrip('/')}/2013-04-01/hostedzone/{quote(zone.id, safe='')}/rrset"
        parameters = [("maxitems", str(PAGE)), *(() if cursor is None else cursor.parameters)]
        query = query_text(parameters)
        now = time.time()  # time of day: a part of the signature
        request = SignedRequest("GET", path, query, [("Host", target.authority)])
        headers = sign(request, credentials, Scope(region, "route53"), now)
        session = self._session_for(target)
        response = await self._send(session, f"{path}?{query}", headers)
        if response.status != 200:
            raise error_of(response, zone, credentials, _clock_difference(response, now))
        return response.body

    async def _send(
        self, session: HTTPSession, path: str, headers: Sequence[tuple[str, str]]
    ) -> Response:
        """Return a response; raises `OSError` with the name of the endpoint."""
        try:
            return await send(session, "GET", path, headers, most=LARGEST_PAGE, timeout=TIMEOUT)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"{session.target.authority}: {reason}") from None

    def _endpoint(self) -> tuple[HTTPTarget, str]:
        """Return where requests go, and the region that they are signed for."""
        partition = partition_of(self._credentials.region)
        if self._options.endpoint is not None:
            return self._options.endpoint, partition.region
        found = self._options.environment.endpoint("ROUTE_53")
        if found is not None:
            variable, url = found
            return target_of(url, variable), partition.region
        return HTTPTarget("https", partition.host, 443, ""), partition.region

    def _session_for(self, target: HTTPTarget) -> HTTPSession:
        """Return the session with the endpoint, which another profile may have changed."""
        if self._session is None or self._session.target != target:
            self.close()
            ca_bundle = self._options.environment.get("AWS_CA_BUNDLE")
            self._session = session_for(target, ca_bundle)
        return self._session


def _clock_difference(response: Response, now: float) -> float:
    """Return the seconds by which the clock of this host is ahead of that of the API."""
    try:
        return now - parsedate_to_datetime(response.date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
