"""Applies the events of a watch to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy_kubernetes.api_client import APIError
from corepy_kubernetes.api_decode import version_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_kubernetes.api_decode import Decoded
    from corepy_kubernetes.api_store import Store, StoreList
    from corepy_kubernetes.objects import Kind

INITIAL_END: Final = "k8s.io/initial-events-end"
"""The annotation of the bookmark at the end of the first events."""


class WatchError(APIError):
    """The API has ended a watch with an event of type ERROR."""


class NoWatchList(Exception):
    """The server does not mark the end of the first events, as before Kubernetes 1.27."""


class Events:
    """Applies the events of one watch to a store."""

    def __init__(
        self, store: Store, kind: Kind, decode: Callable[[Any], Decoded | None], version: str
    ) -> None:
        """Take all events from `version` on; "" if the objects themselves come first."""
        self._store = store
        self._kind = kind
        self._decode = decode
        self.version = version
        self._relist = None if version else store.relist(kind)
        self.is_at_end = False
        """Whether the last one of the first events was taken: `complete` is due."""

    @property
    def is_complete(self) -> bool:
        """Whether all objects are known: the first events have ended."""
        return self._relist is None

    def take(self, event: Any) -> None:
        """Apply an event; raises ValueError for anything else, and `APIError` for an error.

        Raises `NoWatchList` for a bookmark that does not mark the end of the first events.
        """
        fields = event if isinstance(event, dict) else {}
        kind, content = fields.get("type"), fields.get("object")
        if kind == "ERROR":
            raise _event_error(content)
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(
            content, dict
        ):
            raise ValueError(f"an event has the type {kind!r:.40}")
        if kind == "BOOKMARK":
            self._bookmark(content)
        elif (found := self._decode(content)) is not None:
            self._change(found, is_removed=kind == "DELETED")
        self._advance(content)

    def _change(self, found: Decoded, *, is_removed: bool) -> None:
        if is_removed:
            self._store.remove(self._kind, found.namespace, found.name, found.version)
        elif self._relist is not None:
            take_listed(self._relist, found)
        elif found.item is not None:
            self._store.put(found.item, found.version, found.triggered)

    def _bookmark(self, content: dict[str, Any]) -> None:
        if self._relist is None:
            return
        meta = content.get("metadata")
        annotations = meta.get("annotations") if isinstance(meta, dict) else None
        if not isinstance(annotations, dict) or annotations.get(INITIAL_END) != "true":
            raise NoWatchList  # a server that marks the end sends no other bookmark before it
        self.is_at_end = True

    async def complete(self) -> None:
        """End the list that the first events are."""
        assert self._relist is not None
        await self._relist.remove_others()
        self._relist.finish()
        self._relist, self.is_at_end = None, False

    def _advance(self, content: dict[str, Any]) -> None:
        """Note the version of an event, unless it is older than an earlier one."""
        meta = content.get("metadata")
        version = _text(meta.get("resourceVersion")) if isinstance(meta, dict) else ""
        if version and version_number(version) >= version_number(self.version):
            self.version = version


def take_listed(relist: StoreList, found: Decoded | None) -> None:
    """Add an object to a list, unless it has no name; a terminating pod stays as it is known."""
    if found is None:
        return
    if found.item is None:
        relist.keep(found.namespace, found.name)
    else:
        relist.put(found.item, found.version)


def _event_error(content: Any) -> WatchError:
    code = content.get("code") if isinstance(content, dict) else None
    return WatchError(code if isinstance(code, int) else 500, content)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
