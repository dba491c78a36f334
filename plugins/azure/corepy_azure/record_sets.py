"""Converts record sets of Azure's API to records in presentation format.

The names of members differ in case between public and private zones (`ARecords`, `aRecords`), so
all are compared in lower case, as Azure's SDK for Go does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy.dns.names import from_text, to_text
from corepy.dns.presentation.strings import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.zone.polled_records import HostedRecords

    Fields = Mapping[str, Any]


class _Malformed(ValueError):
    """A record has a member that is missing or malformed."""


def add_record_set(document: object, zone: str, records: HostedRecords) -> None:
    """Add the records of one set of the zone named `zone`, as the API lists it.

    A set that cannot be used costs only itself.
    """
    if not isinstance(document, dict):
        records.refuse(zone, "?", "the record set is not a JSON object")
        return
    properties = _lowered(document.get("properties"))
    owner = _owner(document, properties, zone)
    if owner is None:
        records.refuse(zone, "?", "the record set has no name")
        return
    kind = str(document.get("type", "")).rpartition("/")[2] or "?"
    found = [it for it in _READERS if properties.get(_member(it))]
    if not found:
        if problem := _reason_of_none(kind, properties):
            records.refuse(owner, kind, problem)
        return
    ttl = properties.get("ttl")
    for rtype in found:
        if not isinstance(ttl, int) or isinstance(ttl, bool):
            records.refuse(owner, rtype, "the TTL is missing")
            continue
        _add_records(records, owner, ttl, rtype, properties[_member(rtype)])


def _lowered(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {name.lower(): it for name, it in value.items()}


def _owner(document: Fields, properties: Fields, zone: str) -> str | None:
    """Return the whole name; older versions of the API have only the part before the zone."""
    whole, name = properties.get("fqdn"), document.get("name")
    if isinstance(whole, str) and whole:
        return whole
    if not isinstance(name, str) or not name:
        return None
    return zone if name == "@" else f"{name}.{zone}"


def _member(rtype: str) -> str:
    return f"{rtype.lower()}record{'' if rtype in _SINGLE else 's'}"


def _reason_of_none(kind: str, properties: Fields) -> str:
    """Return why a set has no records; "" for an empty one, which Azure permits."""
    for name in ("targetresource", "trafficmanagementprofile"):
        if _lowered(properties.get(name)).get("id"):
            return "it is an alias of a resource of Azure, whose records the API does not list"
    return "" if kind.upper() in _READERS else "this type of records is not known"


def _add_records(records: HostedRecords, owner: str, ttl: int, rtype: str, values: object) -> None:
    read = _READERS[rtype]
    for value in values if isinstance(values, list) else [values]:
        try:
            rdata = read(_lowered(value))
        except ValueError as error:
            records.refuse(owner, rtype, str(error))
        else:
            records.add_text(owner, ttl, rtype, rdata)


# -- members


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name.lower())
    if not isinstance(value, str):
        raise _Malformed(f"{name} is missing")
    return value


def _number(fields: Fields, name: str) -> str:
    value = fields.get(name.lower())
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Malformed(f"{name} is missing")
    return str(value)


def _name(fields: Fields, name: str) -> str:
    """Return a domain name with all escapes; raises ValueError."""
    return to_text(from_text(_text(fields, name)))


def _string(fields: Fields, name: str) -> str:
    return quoted(_text(fields, name).encode())


# -- types


def _mx(fields: Fields) -> str:
    return f"{_number(fields, 'preference')} {_name(fields, 'exchange')}"


def _srv(fields: Fields) -> str:
    numbers = " ".join(_number(fields, name) for name in ("priority", "weight", "port"))
    return f"{numbers} {_name(fields, 'target')}"


def _txt(fields: Fields) -> str:
    strings = fields.get("value")
    if not isinstance(strings, list) or not all(isinstance(it, str) for it in strings):
        raise _Malformed("value is missing")
    return " ".join(quoted(it.encode()) for it in strings)


def _caa(fields: Fields) -> str:
    return f"{_number(fields, 'flags')} {_text(fields, 'tag')} {_string(fields, 'value')}"


def _soa(fields: Fields) -> str:
    names = ("serialNumber", "refreshTime", "retryTime", "expireTime", "minimumTTL")
    numbers = " ".join(_number(fields, name) for name in names)
    return f"{_name(fields, 'host')} {_name(fields, 'email')} {numbers}"


def _ds(fields: Fields) -> str:
    digest = _lowered(fields.get("digest"))
    numbers = " ".join(_number(fields, name) for name in ("keyTag", "algorithm"))
    return f"{numbers} {_number(digest, 'algorithmType')} {_text(digest, 'value')}"


def _tlsa(fields: Fields) -> str:
    numbers = " ".join(_number(fields, name) for name in ("usage", "selector", "matchingType"))
    return f"{numbers} {_text(fields, 'certAssociationData')}"


def _naptr(fields: Fields) -> str:
    numbers = " ".join(_number(fields, name) for name in ("order", "preference"))
    strings = " ".join(_string(fields, name) for name in ("flags", "services", "regexp"))
    replacement = _text(fields, "replacement") or "."
    return f"{numbers} {strings} {to_text(from_text(replacement))}"


_SINGLE: Final = frozenset(("CNAME", "SOA"))
"""Types whose member is one record, not an array."""

_READERS: Final[Mapping[str, Callable[[Fields], str]]] = {
    "A": lambda fields: _text(fields, "ipv4Address"),
    "AAAA": lambda fields: _text(fields, "ipv6Address"),
    "CAA": _caa,
    "CNAME": lambda fields: _name(fields, "cname"),
    "DS": _ds,
    "MX": _mx,
    "NAPTR": _naptr,
    "NS": lambda fields: _name(fields, "nsdname"),
    "PTR": lambda fields: _name(fields, "ptrdname"),
    "SOA": _soa,
    "SRV": _srv,
    "TLSA": _tlsa,
    "TXT": _txt,
}
"""How the rdata of each type is read from the members of a record."""
