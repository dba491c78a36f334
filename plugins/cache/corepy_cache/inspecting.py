"""Shows the entries of a cache, for `corepy cache lookup` and `corepy cache dump`.

"cache/lookup" takes {"name": NAME, "type": TYPE or null} and returns the entries of the name.
"cache/list" takes {"zone": ZONE, "start": NUMBER} and returns {"entries": [...], "next": NUMBER or
null}: the entries of the zone among the next `SCAN` ones, counted from `start`, and the `start` of
the following request. Entries that are stored or removed between two requests may be missing or
appear twice. Neither command counts as a use of an entry.
"""

from __future__ import annotations

import asyncio
from itertools import chain, islice
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.compress import first_records
from corepy.dns.constants import class_name, rcode_name, type_name, type_number
from corepy.dns.edns import OPTION_SUBNET, parse_options
from corepy.dns.form_error import FormError
from corepy.dns.names import InvalidName, from_text, is_subdomain, to_text
from corepy.dns.text import MOST_SHOWN as MOST_RECORDS
from corepy.dns.text import records_of
from corepy.plugin import CommandError
from corepy_cache.keys import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy_cache.cache_store import CacheStore
    from corepy_cache.entry import CacheEntry

LOOKUP: Final = "cache/lookup"
LIST: Final = "cache/list"
SCAN: Final = 100
"""Entries of each cache that one request to list them looks at."""

FEW_RECORDS: Final = 20
"""Records that a list shows of an entry, so that a response remains small."""

MOST_OF_NAME: Final = 50
"""Entries that one look-up returns."""

_SLICE: Final = 10
"""Entries to format before other queries run, which takes about a millisecond."""

_QUESTION: Final = Struct("!HH")
_KEY_FLAGS: Final = ((4, "do"), (1, "cd"), (2, "no rd"))
_TTL: Final = Struct("!I")


def look_up(store: CacheStore, argument: Any) -> list[dict[str, Any]]:
    """Return the entries of a name, and of a type if one is given; raises `CommandError`."""
    if not isinstance(argument, dict) or not {"name"} <= argument.keys() <= {"name", "type"}:
        raise CommandError('lookup takes {"name": NAME, "type": TYPE}')
    name, wanted = _wire(argument["name"]), argument.get("type")
    try:
        qtype = None if wanted is None else type_number(str(wanted))
    except ValueError as error:
        raise CommandError(str(error)) from None
    found = (
        entry
        for entry in _all(store)
        if entry.key.startswith(name) and qtype in (None, _question(entry)[1])
    )
    return [described(store, entry) for entry in islice(found, MOST_OF_NAME)]


async def list_entries(store: CacheStore, argument: Any) -> dict[str, Any]:
    """Return some entries of a zone, and where to continue; raises `CommandError`."""
    if not isinstance(argument, dict) or argument.keys() != {"zone", "start"}:
        raise CommandError('list takes {"zone": ZONE, "start": NUMBER}')
    zone, start = _wire(argument["zone"]), argument["start"]
    if type(start) is not int or start < 0:
        raise CommandError("start of list must be a number of entries")
    shown: list[dict[str, Any]] = []
    for entry in list(islice(_all(store), start, start + SCAN)):
        if is_subdomain(name_of(entry.key), zone):
            shown.append(described(store, entry, FEW_RECORDS))
            if not len(shown) % _SLICE:
                await asyncio.sleep(0)
    has_more = start + SCAN < len(store.success) + len(store.denial)
    return {"entries": shown, "next": start + SCAN if has_more else None}


def _all(store: CacheStore) -> Iterator[CacheEntry]:
    """Return an iterator of all entries, which ends before others may be stored."""
    return chain(store.success.entries.values(), store.denial.entries.values())


def _wire(text: Any) -> bytes:
    try:
        return from_text(str(text)).lower()
    except (InvalidName, UnicodeError) as error:
        raise CommandError(str(error)) from None


def _question(entry: CacheEntry) -> tuple[bytes, int, int, int]:
    """Return the name, the type, the class and the flags in the key of an entry."""
    key = entry.key
    name = name_of(key)
    end = len(name) + _QUESTION.size
    qtype, qclass = _QUESTION.unpack_from(key, len(name))
    return name, qtype, qclass, key[end] if len(key) > end else 0


def described(store: CacheStore, entry: CacheEntry, most: int = MOST_RECORDS) -> dict[str, Any]:
    """Return an entry as plain data, with at most `most` records.

    The TTLs of the records are those of a reply now.
    """
    name, qtype, qclass, flags = _question(entry)
    left = entry.left(store.clock())
    return {
        "name": to_text(name),
        "type": type_name(qtype),
        "class": class_name(qclass),
        "flags": [text for bit, text in _KEY_FLAGS if flags & bit],
        "rcode": rcode_name(entry.rcode),
        "state": "fresh" if left > 0 else "stale",
        "left": left,
        "ttl": entry.ttl,
        "kept_as": "denial" if entry.denial else "success",
        "size": entry.size,
        "for_subnet": any(code == OPTION_SUBNET for code, _ in parse_options(entry.options)),
        "records": _records(entry, name, max(left, 0), most),
    }


def _records(entry: CacheEntry, name: bytes, left: int, most: int) -> list[str]:
    """Return the records of an entry as lines; those of other sections than the answer name it."""
    tail = bytearray(entry.tail)
    for at in entry.offsets:
        _TTL.pack_into(tail, at, left)
    question = entry.key[: len(name) + _QUESTION.size]
    wire = b"".join((entry.head, question, tail))
    try:
        offsets = [len(entry.head) + len(question) + at for at in entry.offsets]
        sections = records_of(first_records(wire, most, offsets))
    except FormError as error:
        return [f"; {error}"]
    lines = [
        str(record) if section == "answer" else f"{record}\t; {section}"
        for section, records in sections.items()
        for record in records
    ]
    hidden = len(entry.offsets) - len(lines)
    return [*lines, f"; {hidden} more records"] if hidden > 0 else lines
