"""Reads the responses of Nomad's API (developer.hashicorp.com/nomad/api-docs/services).

Both are arrays, which are decoded in portions, so that a long one does not delay queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.http.json_stream import JSONItems

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_NAMES: Final = 1_000_000
"""Services of one namespace."""

MOST_SPELLINGS: Final = 16
"""Services whose names differ only in capitals; further ones are ignored."""

MOST_INSTANCES: Final = 5000
"""Different instances of one service; further ones are ignored, as a reply cannot have them."""

LONGEST_LABEL: Final = 63
"""Characters of a service's name; a longer one cannot be a label of a domain name."""

_SPACE: Final = b" \t\r\n"
_OPENING: Final = b'{"items":'


class Instance(NamedTuple):
    """An instance of a service."""

    address: str
    """An IP address, or the name of a host."""

    port: int


class NameList:
    """Collects the names of services from the list of one namespace.

    The list has one element, `{"Namespace": ..., "Services": [{"ServiceName": ...}, ...]}`, or none
    for a namespace without services.
    """

    def __init__(self, namespace: str) -> None:
        """Expect the list of `namespace`."""
        self._namespace = namespace
        self._items = JSONItems("Services")
        self._held = b""
        """The last "]" with the white space around it, which may be the end of the list."""
        self._has_begun = False
        self._is_empty = True
        self.names: set[str] = set()
        """Names in lower case."""
        self.spellings: dict[str, tuple[str, ...]] = {}
        """The names in Nomad, for those of `names` that are spelled with capitals in Nomad."""

    def feed(self, data: bytes) -> None:
        """Read a portion; raises ValueError if it is malformed."""
        data = self._held + data
        if not self._has_begun:
            data = data.lstrip(_SPACE)
            if not data:
                return
            if not data.startswith(b"["):
                raise ValueError("the list of services is not a JSON array")
            self._has_begun, data = True, data[1:]
        kept = data.rstrip(_SPACE)
        cut = len(kept) - 1 if kept.endswith(b"]") else len(data)
        self._held = data[cut:]
        if self._is_empty:
            self._is_empty = not data[:cut].strip()
        if not self._is_empty:
            self._add_all(data[:cut], final=False)

    def finish(self) -> None:
        """Read the end; raises ValueError if the list is not complete."""
        if self._held.strip() != b"]":
            raise ValueError("the list of services ends early")
        if self._is_empty:
            return
        self._add_all(b"", final=True)
        namespace = self._items.members.get("Namespace")
        if namespace != self._namespace:
            raise ValueError(f"the list of services is that of namespace {namespace!r}"[:120])

    def _add_all(self, data: bytes, *, final: bool) -> None:
        for item in self._items.feed(data, final=final):
            name = item.get("ServiceName") if isinstance(item, dict) else None
            if not isinstance(name, str):
                raise ValueError("a service in the list has no name")
            self._add(name)

    def _add(self, name: str) -> None:
        """Add a name, unless it cannot be a label, which does not concern the other names."""
        if not (name and len(name) <= LONGEST_LABEL and name.isascii()):
            return
        key = name.lower()
        others = self.spellings.get(key) or ((key,) if key in self.names else ())
        found = tuple(dict.fromkeys((*others, name)))[:MOST_SPELLINGS]
        if found != (key,):
            self.spellings[key] = found
        self.names.add(key)
        if len(self.names) > MOST_NAMES:
            raise ValueError(f"the namespace has more than {MOST_NAMES} services")


class InstanceList:
    """Collects the instances from the description of one service."""

    def __init__(self) -> None:
        self._items = JSONItems("items")
        self._opening = _OPENING
        self._found: dict[Instance, None] = {}
        self.unusable = 0
        """Instances without an address and a port that records can have."""

    @property
    def instances(self) -> list[Instance]:
        """The instances that are usable, each once."""
        return list(self._found)

    def feed(self, data: bytes) -> None:
        """Read a portion; raises ValueError if it is malformed."""
        opening, self._opening = self._opening, b""
        self._add_all(self._items.feed(opening + data))

    def finish(self) -> None:
        """Read the end; raises ValueError if the list is not complete, or not a list."""
        self._add_all(self._items.feed(self._opening + b"}", final=True))
        if self._items.members:
            raise ValueError("the description of the service is not a JSON array")

    def _add_all(self, items: Iterator[Any]) -> None:
        for item in items:
            if not isinstance(item, dict):
                raise ValueError("an instance of the service is not a JSON object")
            instance = _instance_of(item)
            if instance is None:
                self.unusable += 1
            elif len(self._found) < MOST_INSTANCES:
                self._found[instance] = None


def _instance_of(item: Mapping[str, Any]) -> Instance | None:
    address, port = item.get("Address"), item.get("Port", 0)
    if not isinstance(address, str) or not address or type(port) is not int:
        return None
    return Instance(address, port) if 0 <= port <= 0xFFFF else None


def spellings_of(name: str, spellings: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return the names in Nomad of a service whose name in lower case is `name`."""
    return spellings.get(name, (name,))
