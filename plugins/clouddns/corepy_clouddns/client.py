"""Lists the record sets of managed zones in Google Cloud DNS (REST API, version 1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from corepy.http.bearer_api import BearerAPI
from corepy.http.json_api import APIError
from corepy.zone.polled_api import LARGEST_PAGE, PollError, ZoneMissing, explained, hint_of_status
from corepy.zone.polled_records import add_pages, read_items
from corepy_clouddns.tokens import Tokens

if TYPE_CHECKING:
    from corepy.zone.polled_api import PolledZone, ZoneIntake
    from corepy.zone.polled_records import HostedRecords
    from corepy_clouddns.tokens import Account

_LONGEST_TOKEN: Final = 8192
"""Characters of the token of the next page."""

_NOT_FOUND: Final = 404
_MISSING: Final = frozenset(("notFound", "NOT_FOUND"))


class Client:
    """Lists zones with one account (`corepy.zone.polled_api.PolledClient`)."""

    def __init__(self, account: Account) -> None:
        self._api = BearerAPI(account.server, Tokens(account).fetch)

    async def fetch(self, zone: PolledZone, intake: ZoneIntake) -> None:
        """Add all records of a zone, page by page; raises `PollError`, or another `OSError`."""
        await add_pages(intake, partial(self._page, path_of(zone.id)), read_page)

    async def _page(self, path: str, token: str | None) -> bytes:
        query = f"?pageToken={quote(token, safe='')}" if token else ""
        try:
            return await self._api.get(path + query, most=LARGEST_PAGE)
        except APIError as error:
            raise _explained(error) from None

    def close(self) -> None:
        """Close the idle connections."""
        self._api.close()


def path_of(hosted: str) -> str:
    """Return the path of the list of record sets of PROJECT:HOSTED_ZONE_NAME."""
    project, _, name = hosted.rpartition(":")
    return f"/dns/v1/projects/{quote(project, safe='')}/managedZones/{quote(name, safe='')}/rrsets"


def _explained(error: APIError) -> PollError:
    """Return an error of the API with the next step for the operator."""
    if error.status == _NOT_FOUND and error.code in _MISSING:
        return ZoneMissing(f"{error}; check the names of the project and of the hosted zone")
    return explained(error, _HINTS)


_HINTS: Final = {
    "forbidden": "grant the role roles/dns.reader in the project",
    "PERMISSION_DENIED": "grant the role roles/dns.reader in the project",
    "accessNotConfigured": "enable the Cloud DNS API in the project",
    # Google sends these with 403, too.
    "quotaExceeded": hint_of_status(429),
    "rateLimitExceeded": hint_of_status(429),
    "userRateLimitExceeded": hint_of_status(429),
}


def read_page(page: bytes, records: HostedRecords) -> str:
    """Add the record sets of a page, and return the token of the next one, "" for the last one.

    In a thread. Raises `PollError` if the page is not such a list.
    """
    members = read_items(page, "rrsets", lambda item: add_record_set(item, records))
    token = members.get("nextPageToken") or ""
    if not isinstance(token, str) or len(token) > _LONGEST_TOKEN:
        raise PollError("the response is not a list of records: nextPageToken is malformed")
    return token


def add_record_set(document: Any, records: HostedRecords) -> None:
    """Add the records of one set, as the API lists it; an unusable set costs only itself."""
    fields = document if isinstance(document, dict) else {}
    owner, rtype, ttl = fields.get("name"), fields.get("type"), fields.get("ttl", 0)
    values = fields.get("rrdatas") or []
    if not isinstance(owner, str) or not isinstance(rtype, str):
        records.refuse("?", "?", "the record set has no name, or no type")
    elif fields.get("routingPolicy"):
        records.refuse(owner, rtype, "its records depend on a routing policy")
    elif not isinstance(ttl, int) or isinstance(ttl, bool) or not isinstance(values, list):
        records.refuse(owner, rtype, "the record set is malformed")
    else:
        for value in values:
            if isinstance(value, str):
                records.add_text(owner, ttl, rtype, value)
            else:
                records.refuse(owner, rtype, "the record is not a text")
