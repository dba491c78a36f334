"""Header fields that an operator adds to requests: of the option `header`, and of the environment.

OpenTelemetry's exporters read two variables (specification, protocol/exporter.md), the one for
traces in place of the other. Values may be secrets, such as a token: no message contains one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
"""The variables in the order of precedence."""

OWN: Final = frozenset(
    ("host", "user-agent", "content-type", "content-length", "connection", "transfer-encoding")
)
"""The fields that each request has anyway, in lower case."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")


class HeaderField(NamedTuple):
    """A header field of each request."""

    name: str
    value: str


def header_field(name: str, value: str) -> HeaderField:
    """Return a field; raises ValueError with the reason if HTTP does not permit it."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header field")
    if name.lower() in OWN:
        raise ValueError(f"the server sets {name} itself")
    value = value.strip(" \t")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} has characters other than printable ASCII")
    return HeaderField(name, value)


def from_environment(environment: Mapping[str, str]) -> tuple[list[HeaderField], list[str]]:
    """Return the fields of the environment, and a message for each entry that is ignored.

    The variables contain NAME=VALUE, separated by commas; values are percent-encoded (W3C Baggage
    without properties).
    """
    variable = next((it for it in VARIABLES if environment.get(it)), "")
    fields: dict[str, HeaderField] = {}
    problems: list[str] = []
    entries = environment.get(variable, "").split(",")
    for number, entry in enumerate(entries, 1):
        name, equals, value = entry.partition("=")
        if not entry.strip():
            continue
        try:
            name = unquote(name.strip())
            if not equals or not _NAME.fullmatch(name):  # not shown: it may be part of a secret
                raise ValueError("it does not begin with the name of a header field and '='")
            field = header_field(name, unquote(value))
        except ValueError as error:
            problems.append(f"entry {number} of {variable} is ignored: {error}")
        else:
            fields[field.name.lower()] = field
    return list(fields.values()), problems
