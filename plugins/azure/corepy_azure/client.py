"""Lists the record sets of zones in Azure DNS (REST API, Microsoft.Network)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from corepy.http.bearer_api import BearerAPI
from corepy.http.http_client import parse_url
from corepy.http.json_api import APIError, one_line
from corepy.http.json_stream import JSONItems
from corepy.plugin import in_thread
from corepy.zone.polled_api import LARGEST_PAGE, PollError, ZoneMissing
from corepy.zone.polled_records import HostedRecords
from corepy_azure.record_sets import add_record_set
from corepy_azure.tokens import Account, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.http.http_client import HTTPTarget
    from corepy.zone.polled_api import PolledZone, ZoneIntake

_PORTION: Final = 65536
"""Bytes of a page that are decoded at a time, so that other threads get turns between."""

_LONGEST_LINK: Final = 16384
"""Characters of the link to the next page."""

_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class HostedZone:
    """Where a zone is in Azure."""

    account: Account
    group: str
    name: str
    """Without a dot at its end."""

    is_private: bool

    @property
    def path(self) -> str:
        """The path of the list of its record sets."""
        parts = (
            f"/subscriptions/{quote(self.account.subscription, safe='')}",
            f"/resourceGroups/{quote(self.group, safe='')}/providers/Microsoft.Network",
            f"/{'privateDnsZones' if self.is_private else 'dnsZones'}",
            f"/{quote(self.name, safe='')}",
            f"/{'ALL' if self.is_private else 'recordsets'}",
        )
        return "".join(parts)


class Client:
    """Lists zones (`PolledClient`); those of one account share its token and connections."""

    def __init__(self, hosted: Mapping[PolledZone, HostedZone]) -> None:
        self._hosted = hosted
        self._servers = {it.account: _Server(it.account) for it in hosted.values()}

    async def fetch(self, zone: PolledZone, intake: ZoneIntake) -> None:
        """Add all records of a zone, page by page; raises `PollError`, or another `OSError`."""
        hosted = self._hosted[zone]
        records = HostedRecords(intake)
        server = self._servers[hosted.account]
        link: str | None = await server.first_link(hosted)
        seen: set[str] = set()
        while link is not None:
            if link in seen:
                raise PollError("the pages of the list repeat")
            seen.add(link)
            page = await server.get(hosted, link)
            intake.begin_page(len(page))
            following = await in_thread(lambda page=page: _read(page, hosted.name, records))
            link = None if following is None else _path_of_link(following, server.target)
        records.finish()

    def close(self) -> None:
        """Close the idle connections."""
        for server in self._servers.values():
            server.close()
