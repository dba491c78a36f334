"""Lists the record sets of zones in Azure DNS (REST API, Microsoft.Network)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from corepy.http.bearer_api import BearerAPI
from corepy.http.http_client import parse_url
from corepy.http.json_api import APIError
from corepy.zone.polled_api import LARGEST_PAGE, PollError, ZoneMissing, explained
from corepy.zone.polled_records import add_pages, read_items
from corepy_azure.record_sets import add_record_set
from corepy_azure.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.http.http_client import HTTPTarget
    from corepy.zone.polled_api import PolledZone, ZoneIntake
    from corepy.zone.polled_records import HostedRecords
    from corepy_azure.tokens import Account

_LONGEST_LINK: Final = 16384
"""Characters of the link to the next page."""

PUBLIC: Final = "dnsZones"
PRIVATE: Final = "privateDnsZones"
"""The types of zones in Azure."""

_LISTS: Final = {PUBLIC: "recordsets", PRIVATE: "ALL"}
"""The last part of the path of a list, by the type of the zone."""

_VERSIONS: Final[Mapping[str, Sequence[str]]] = {
    PUBLIC: ("2023-07-01-preview", "2018-05-01", "2016-04-01"),
    PRIVATE: ("2024-06-01", "2018-09-01"),
}
"""Versions of the API in the order in which they are tried.

The first one of public zones has DS, NAPTR and TLSA records; the last one is that of Azure Stack
Hub. A cloud that does not have a version refuses the request.
"""

_UNKNOWN_VERSION: Final = frozenset(
    ("InvalidApiVersionParameter", "InvalidResourceType", "NoRegisteredProviderFound",
     "UnsupportedApiVersion")
)  # fmt: skip
"""Codes of errors: the API does not have the version. Their status is 400, or 404 for a type."""

_MISSING: Final = frozenset(
    ("ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound", "NotFound")
)
_NOT_FOUND: Final = 404


class HostedZone(NamedTuple):
    """Where a zone is in a subscription."""

    group: str
    kind: str
    """`PUBLIC` or `PRIVATE`."""

    name: str
    """Without a dot at its end."""

    @property
    def id(self) -> str:
        """The text from which `of` makes the same object."""
        return "/".join(self)

    @classmethod
    def of(cls, text: str) -> HostedZone:
        """Return the zone with an id."""
        return cls(*text.split("/", 2))

    def path(self, subscription: str) -> str:
        """Return the path of the list of its record sets."""
        subscription, group, name = (
            quote(it, safe="") for it in (subscription, self.group, self.name)
        )
        return (
            f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network"
            f"/{self.kind}/{name}/{_LISTS[self.kind]}"
        )


class Client:
    """Lists the zones of one subscription (`corepy.zone.polled_api.PolledClient`)."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._tokens = Tokens(account)
        self._api = BearerAPI(account.cloud.manager, self._tokens.fetch)
        self._versions = {kind: list(versions) for kind, versions in _VERSIONS.items()}
        """Versions of the API that it has not refused."""

    async def fetch(self, zone: PolledZone, intake: ZoneIntake) -> None:
        """Add all records of a zone, page by page; raises `PollError`, or another `OSError`."""
        hosted = HostedZone.of(zone.id)
        await add_pages(
            intake,
            partial(self._page, hosted),
            lambda page, records: read_page(page, hosted.name, records),
        )

    async def _page(self, hosted: HostedZone, link: str | None) -> bytes:
        return await (self._next_page(hosted, link) if link else self._first_page(hosted))

    async def _first_page(self, hosted: HostedZone) -> bytes:
        """Return the first page, with the newest version of the API that this cloud has."""
        path = hosted.path(self._account.subscription)
        versions = self._versions[hosted.kind]
        while True:
            version = versions[0]
            try:
                return await self._api.get(f"{path}?api-version={version}", most=LARGEST_PAGE)
            except APIError as error:
                if versions == [version] or error.code not in _UNKNOWN_VERSION:
                    raise _explained(error, hosted) from None
                if versions[0] == version:  # no other list has removed it meanwhile
                    del versions[0]

    async def _next_page(self, hosted: HostedZone, link: str) -> bytes:
        path = path_of_link(link, self._account.cloud.manager)
        try:
            return await self._api.get(path, most=LARGEST_PAGE)
        except APIError as error:
            raise _explained(error, hosted) from None

    def close(self) -> None:
        """Close the idle connections."""
        self._api.close()
        self._tokens.close()


def _explained(error: APIError, hosted: HostedZone) -> PollError:
    """Return an error of the API with the next step for the operator."""
    if error.status == _NOT_FOUND and error.code in _MISSING:
        kind = "private" if hosted.kind == PRIVATE else "public"
        place = f"resource group {hosted.group!r} has no {kind} zone {hosted.name!r}"
        other = "public" if kind == "private" else "private"
        return ZoneMissing(f"{error}; {place}: check the names, and whether it is {other}")
    return explained(error, _HINTS)


_HINTS: Final = {
    "AuthorizationFailed": "assign the role Reader for the zone to the identity",
    "InvalidAuthenticationTokenTenant": "tenant must be that of the subscription",
    "SubscriptionNotFound": "check subscription, and environment",
    "InvalidSubscriptionId": "subscription must be the ID of a subscription",
}


def read_page(page: bytes, zone: str, records: HostedRecords) -> str:
    """Add the record sets of a page, and return the link to the next one, "" for the last one.

    In a thread. Raises `PollError` if the page is not such a list.
    """
    members = read_items(page, "value", lambda item: add_record_set(item, zone, records))
    link = members.get("nextLink") or ""
    if not isinstance(link, str):
        raise PollError("the response is not a list of records: nextLink is not a text")
    return link


def path_of_link(link: str, manager: HTTPTarget) -> str:
    """Return the path and query of a link to the next page, which has the host of the API.

    Any other host would get the token. Raises `PollError`.
    """
    try:
        if len(link) > _LONGEST_LINK:
            raise ValueError("it is too long")
        target = parse_url(link)
    except ValueError as error:
        raise PollError(f"the link to the next page is malformed: {error}") from None
    there = target.scheme, target.host, target.port
    if there != (manager.scheme, manager.host, manager.port):
        raise PollError(f"the link to the next page leads to another server: {target.authority}")
    return target.path
