"""The parameters of a request, from its query."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from corepy.http import HTTPRequest

MAX_SECONDS: Final = 300.0
"""The longest profile."""

_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?", re.ASCII)
_WHOLE: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_MAX_FIELDS: Final = 20


class BadRequest(Exception):
    """A parameter is invalid; the message names it, its value, and what is allowed."""


class Parameters(NamedTuple):
    """What a client asked for."""

    seconds: float | None
    """How long to measure; None if the request does not say."""

    debug: int
    """0: the binary format; 1 or 2: text."""

    collect: bool
    """Whether to collect garbage before (`gc=1`)."""


def read_parameters(request: HTTPRequest) -> Parameters:
    """Return the parameters; raise `BadRequest`. Unknown ones are ignored, as in Go."""
    from urllib.parse import parse_qs  # not imported by a server that is not profiled

    try:
        fields = parse_qs(request.query, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadRequest(f"the query has more than {_MAX_FIELDS} parameters") from None
    first = {name: values[0] for name, values in fields.items()}
    seconds = _seconds(first["seconds"]) if "seconds" in first else None
    return Parameters(seconds, _whole(first, "debug"), _whole(first, "gc") > 0)


def _seconds(text: str) -> float:
    seconds = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise BadRequest(
            f'invalid value for "seconds": {text[:40]!r}; use a number of up to {MAX_SECONDS:g}'
        )
    return seconds


def _whole(fields: dict[str, str], name: str) -> int:
    """Return a whole number, 0 if it is missing or invalid, as in Go."""
    text = fields.get(name, "")
    return int(text) if _WHOLE.fullmatch(text) else 0
