"""Makes metadata labels of a database's records (CoreDNS: plugin/geoip/city.go, asn.go).

All labels of a kind of database are always there: a value that a record lacks, or has with another
type, is an empty text, and "0" or "false" for a number or a truth value.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

CITY: Final = frozenset(
    (
        "DBIP-City-Lite",
        "DBIP-Country",
        "DBIP-Country-Lite",
        "DBIP-ISP (compat=Enterprise)",
        "DBIP-Location (compat=City)",
        "DBIP-Location-ISP (compat=Enterprise)",
        "GeoIP-City-Redacted-US",
        "GeoIP-Enterprise-Redacted-US",
        "GeoIP2-City",
        "GeoIP2-City-Africa",
        "GeoIP2-City-Asia-Pacific",
        "GeoIP2-City-Europe",
        "GeoIP2-City-North-America",
        "GeoIP2-City-South-America",
        "GeoIP2-Country",
        "GeoIP2-Enterprise",
        "GeoIP2-Precision-City",
        "GeoLite2-City",
        "GeoLite2-Country",
    )
)
"""Types of databases with locations (github.com/oschwald/geoip2-golang, getDBType)."""

ASN: Final = frozenset(
    (
        "DBIP-ASN-Lite (compat=GeoLite2-ASN)",
        "GeoIP2-ISP",
        "GeoIP2-Precision-ISP",
        "GeoLite2-ASN",
    )
)
"""Types of databases with networks."""


def city_labels(record: object) -> dict[str, str]:
    """Return the labels of a record with a location; None has them, too."""
    return {
        "geoip/city/name": _text(record, "city", "names", "en"),
        "geoip/country/code": _text(record, "country", "iso_code"),
        "geoip/country/name": _text(record, "country", "names", "en"),
        "geoip/country/is_in_european_union": _truth(record, "country", "is_in_european_union"),
        "geoip/continent/code": _text(record, "continent", "code"),
        "geoip/continent/name": _text(record, "continent", "names", "en"),
        "geoip/latitude": _number(record, "location", "latitude"),
        "geoip/longitude": _number(record, "location", "longitude"),
        "geoip/timezone": _text(record, "location", "time_zone"),
        "geoip/postalcode": _text(record, "postal", "code"),
        "geoip/subdivisions/code": _subdivisions(record),
    }


def asn_labels(record: object) -> dict[str, str]:
    """Return the labels of a record with a network; None has them, too."""
    number = _at(record, "autonomous_system_number")
    return {
        "geoip/asn/number": str(number) if type(number) is int else "0",
        "geoip/asn/org": _text(record, "autonomous_system_organization"),
    }


def _at(record: object, *path: str) -> object:
    for key in path:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


def _text(record: object, *path: str) -> str:
    value = _at(record, *path)
    return value if isinstance(value, str) else ""


def _truth(record: object, *path: str) -> str:
    return "true" if _at(record, *path) is True else "false"


def _number(record: object, *path: str) -> str:
    """Return the shortest text of a number without an exponent, as Go's strconv.FormatFloat."""
    value = _at(record, *path)
    if type(value) is not float:
        return ""
    text = repr(value)
    if "e" in text:
        text = f"{Decimal(text):f}"
    return text.removesuffix(".0")


def _subdivisions(record: object) -> str:
    parts = _at(record, "subdivisions")
    return ",".join(_text(part, "iso_code") for part in parts) if isinstance(parts, list) else ""
