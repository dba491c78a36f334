"""Lists the objects of a kind and watches their changes, as the API conventions describe it.

https://kubernetes.io/docs/reference/using-api/api-concepts/ has the protocol. A list comes in
pages, or, where the server can, as the first events of a watch. A watch continues at the resource
version of its last event, so a connection that ends loses nothing. If the server does not know the
version any more (410), there is another list: its objects are added or replaced, and all others are
removed at its end, so a name that exists is known at any time.

An API server that fails changes nothing. Attempts at it are repeated with growing delays.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from corepy.http.json_stream import JSONItems, JSONLines
from corepy.net.backoff import Backoff, jittered
from corepy_kubernetes.api_client import READ_TIMEOUT, APIError
from corepy_kubernetes.api_decode import decoder
from corepy_kubernetes.api_events import Events, NoWatchList, WatchError, take_listed
from corepy_kubernetes.api_turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.http.http_session import StreamedResponse
    from corepy_kubernetes.api_client import APIClient
    from corepy_kubernetes.api_resources import Resource
    from corepy_kubernetes.api_store import Store, StoreList
    from corepy_kubernetes.objects import Kind, Needs

PAGE: Final = 500
"""Objects of one page of a list."""

MOST_PAGES: Final = 10_000
"""Pages of a list; one with more has no end."""

WATCH_SECONDS: Final = 300
"""Least duration of a watch; the most is twice that. The server ends it (client-go: reflector)."""

SILENCE: Final = 120.0
"""Seconds without an event or a bookmark after which a watch begins anew.

A server sends bookmarks about once a minute. Continuing costs it one request, and it finds a
connection over which nothing arrives any more.
"""

INITIAL_SILENCE: Final = 3.0
"""Seconds without an event among the first ones, after which the server does not mark their end."""

FIRST_DELAY: Final = 0.8
LONGEST_DELAY: Final = 30.0
LONGEST_PAUSE: Final = 300.0
"""Seconds that a server can ask for with Retry-After."""

SHORTEST_WATCH: Final = 1.0
"""Seconds; a watch that ends earlier, without an event, is a failure."""

_BAD_REQUEST: Final = (400, 422)


class Watcher:
    """Keeps the objects of one kind in a store equal to those of the API."""

    def __init__(
        self,
        client: APIClient,
        wanted: Resource,
        needs: Needs,
        store: Store,
        report: Callable[[Kind, Exception | None], object],
    ) -> None:
        """Call `report` with each failure, and with None after each success."""
        self._client = client
        self._resource = wanted
        self._decode = decoder(wanted.kind, needs)
        self._store = store
        self._report = report
        self._backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        self._version = ""
        """The resource version from which a watch continues, "" if a list is due."""
        self._is_paged = True
        """Whether lists have pages: the rest of a list may have expired before it was read."""
        self._takes_watch_list = True
        """Whether the server sends lists as the first events of a watch, as far as is known."""

    async def run(self) -> None:
        """List and watch until the task is cancelled."""
        while True:
            try:
                await self._follow()
            except APIError as error:
                delay = self._after_refusal(error)
            except Exception as error:  # also a fault of this program: the watch goes on
                delay = self._after_failure(error)
            else:
                continue
            await asyncio.sleep(delay)

    def _after_refusal(self, error: APIError) -> float:
        """Return the seconds to wait after the API has refused a request."""
        if error.is_expired or error.is_too_new:
            self._version = ""
        delay = self._backoff.next_delay()
        if error.is_expired:  # usual after a long time without changes
            return delay
        self._report(self._resource.kind, error)
        if error.retry_after is None:
            return delay
        return jittered(1.0, 1.25) * min(error.retry_after, LONGEST_PAUSE)

    def _after_failure(self, error: Exception) -> float:
        self._report(self._resource.kind, error)
        return self._backoff.next_delay()

    async def _follow(self) -> None:
        """List if need be, and follow one watch to its end."""
        if self._version:
            await self._watch({})
        elif self._takes_watch_list:
            await self._watch_list()
        else:
            self._version = await self._list()
            self._backoff.reset()

    # Lists

    async def _list(self) -> str:
        """Update the store with a list; return the resource version of the list."""
        relist = self._store.relist(self._resource.kind)
        token, tokens = "", set[str]()
        while True:
            query = {"limit": str(PAGE)} if self._is_paged else {}
            if token:
                query["continue"] = token
            try:
                meta = await self._page(relist, query, is_first=not token)
            except APIError as error:
                self._is_paged = not error.is_expired
                raise
            token = _text(meta.get("continue"))
            if not token:
                break
            if token in tokens or len(tokens) >= MOST_PAGES:
                raise ValueError("a list has no end: its pages continue with one another")
            tokens.add(token)
        version = _text(meta.get("resourceVersion"))
        if not version:
            raise ValueError("a list has no resource version")
        await relist.remove_others()
        relist.finish()
        self._is_paged = True
        return version

    async def _page(
        self, relist: StoreList, query: dict[str, str], *, is_first: bool
    ) -> dict[str, Any]:
        """Add the objects of a page; return the metadata of the list."""
        query |= self._resource.selectors
        response = await self._client.get(self._resource.path, query, is_first=is_first)
        items, turns = JSONItems("items"), Turns()
        async with response:
            is_final = False
            while not is_final:
                data = await response.read(READ_TIMEOUT)
                is_final = not data
                for content in items.feed(data, final=is_final):
                    take_listed(relist, self._decode(content))
                    await turns.take()
        meta = items.members.get("metadata")
        return meta if isinstance(meta, dict) else {}

    # Watches

    async def _watch_list(self) -> None:
        """Get the list as the first events of a watch, and follow the watch."""
        query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        try:
            await self._watch(query)
        except NoWatchList:
            self._takes_watch_list = False
        except APIError as error:
            is_refused = error.status in _BAD_REQUEST or isinstance(error, WatchError)
            if self._version or not is_refused:
                raise
            self._takes_watch_list = False

    async def _watch(self, query: dict[str, str]) -> None:
        """Follow a watch to its end, from `_version` on."""
        seconds = jittered(WATCH_SECONDS, 2 * WATCH_SECONDS)
        query |= self._resource.selectors
        query |= {"watch": "true", "allowWatchBookmarks": "true"}
        query |= {"resourceVersion": self._version, "timeoutSeconds": str(int(seconds))}
        begun, count = time.monotonic(), 0
        response = await self._client.get(self._resource.path, query, timed=False)
        self._report(self._resource.kind, None)
        events = Events(self._store, self._resource.kind, self._decode, self._version)
        async with response:
            lines, turns = JSONLines(), Turns()
            while data := await _read(response, events):
                for event in lines.feed(data):
                    count += 1
                    events.take(event)
                    if events.is_at_end:
                        await events.complete()
                    if events.version != self._version and events.is_complete:
                        self._version = events.version
                        self._backoff.reset()
                    await turns.take()
        if not events.is_complete:
            raise ValueError("the watch has ended before its first events were complete")
        if not count and time.monotonic() - begun < SHORTEST_WATCH:
            raise ValueError("the watch has ended at once, without an event")


async def _read(response: StreamedResponse, events: Events) -> bytes:
    """Return the next bytes of a watch, b"" at its end, or after a long silence."""
    try:
        return await response.read(SILENCE if events.is_complete else INITIAL_SILENCE)
    except TimeoutError:
        if not events.is_complete:
            raise NoWatchList from None
        return b""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
