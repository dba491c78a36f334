"""The format of a line: text with placeholders (CoreDNS: plugin/pkg/replacer).

A format is taken apart once, at setup. What runs for each query are the functions in `PLACEHOLDERS`
and one `%` of a prepared template, which Python does faster than joining pieces. A placeholder's
function must be cheap and must not fail, whatever the message holds. What it returns has no control
characters, or a client could write lines of its own into the log.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.address import host_port
from corepy.dns.names import to_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, Request

    Value = Callable[[Request, Reply, float], object]
    """What a placeholder stands for: (request, reply, seconds that the reply took)."""

    Render = Callable[[Request, Reply, float], str]

EMPTY: Final = "-"
"""Stands for metadata that nobody has set."""

COMMON: Final = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" '
    "{rcode} {>rflags} {rsize} {duration}"
)
COMBINED: Final = COMMON + ' "{>opcode}"'

_OPT_SIZE: Final = 11
_IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_LIKE_A_PLACEHOLDER: Final = re.compile(r">?[A-Za-z_]+")
_RCODES: Final = {number: name for name, number in c.RCODES.items()}
_FLAGS: Final = (
    ("qr", c.FLAG_QR),
    ("aa", c.FLAG_AA),
    ("tc", c.FLAG_TC),
    ("rd", c.FLAG_RD),
    ("ra", c.FLAG_RA),
    ("z", 0x0040),
    ("ad", c.FLAG_AD),
    ("cd", c.FLAG_CD),
)

# The same names are asked for again and again.
_name = lru_cache(maxsize=1024)(to_text)


@lru_cache(maxsize=1024)
def _flags(word: bytes) -> str:
    bits = int.from_bytes(word, "big")
    return ",".join(name for name, bit in _FLAGS if bits & bit)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@lru_cache(maxsize=1024)
def _host_of(sockaddr: bytes) -> str:
    return _bracketed(host_port(sockaddr)[0])


def _client(request: Request) -> tuple[str, int]:
    """Return what `request.remote` holds, the host in brackets if it is IPv6, remembering hosts.

    Ports change with each query of a client. In a sockaddr the port is the third and fourth byte
    in both families (ip(7), ipv6(7)).
    """
    peer = request.peer
    if type(peer) is bytes and len(peer) > 4:
        return _host_of(peer[:2] + b"\0\0" + peer[4:]), peer[2] << 8 | peer[3]
    host, port = request.remote
    return _bracketed(host), port


def _rcode(request: Request, reply: Reply, seconds: float) -> object:
    rcode = reply.extended_rcode << 4 | reply.wire[3] & 15
    return _RCODES.get(rcode, rcode)


def _reply_size(request: Request, reply: Reply, seconds: float) -> int:
    if request.edns is None:
        return len(reply.wire)
    return len(reply.wire) + _OPT_SIZE + len(reply.options)


def _duration(request: Request, reply: Reply, seconds: float) -> str:
    return ("%.9f" % seconds).rstrip("0").rstrip(".") + "s"  # noqa: UP031 - faster than an f-string


PLACEHOLDERS: Final[dict[str, Value]] = {
    "type": lambda q, r, s: c.type_name(q.qtype),
    "name": lambda q, r, s: _name(q.name_wire),
    "class": lambda q, r, s: c.class_name(q.qclass),
    "proto": lambda q, r, s: q.proto,
    "size": lambda q, r, s: len(q.wire),
    "remote": lambda q, r, s: _client(q)[0],
    "port": lambda q, r, s: _client(q)[1],
    "local": lambda q, r, s: _bracketed(q.local_address[0]),
    ">id": lambda q, r, s: q.wire[0] << 8 | q.wire[1],
    ">opcode": lambda q, r, s: q.wire[2] >> 3 & 15,
    ">do": lambda q, r, s: "true" if q.do else "false",
    ">bufsize": lambda q, r, s: q.size,
    "rcode": _rcode,
    "rsize": _reply_size,
    "duration": _duration,
    ">rflags": lambda q, r, s: _flags(r.wire[2:4]),
}


def _common(request: Request, reply: Reply, seconds: float) -> str:
    """Return what `COMMON` says, in one go: most formats are made of it, and 12 calls are a lot."""
    query, answer = request.wire, reply.wire
    host, port = _client(request)
    edns = request.edns
    rcode = reply.extended_rcode << 4 | answer[3] & 15
    size = len(answer)
    if edns is not None:
        size += _OPT_SIZE + len(reply.options)
    return (
        f"{host}:{port} - {query[0] << 8 | query[1]} "
        f'"{c.type_name(request.qtype)} {c.class_name(request.qclass)} {_name(request.name_wire)} '
        f"{request.proto} {len(query)} {'true' if edns is not None and edns.do else 'false'} "
        f'{request.size}" {_RCODES.get(rcode, rcode)} {_flags(answer[2:4])} {size} '
        f"{('%.9f' % seconds).rstrip('0').rstrip('.')}s"  # noqa: UP031 - as in _duration
    )


def _metadata(label: str) -> Value:
    def value(request: Request, reply: Reply, seconds: float) -> object:
        text = str(request.metadata.get(label, EMPTY))
        return text if text.isprintable() else _escape(text)

    return value


def _escape(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def expand(text: str) -> str:
    """Return a format with `{common}` and `{combined}` written out."""
    return text.replace("{common}", COMMON).replace("{combined}", COMBINED)


def metadata_labels(text: str) -> set[str]:
    """Return the labels of the metadata that a format shows."""
    return {name[1:] for name in _IN_BRACES.findall(text) if name.startswith("/")}


def unknown_placeholders(text: str) -> list[str]:
    """Return what looks like a placeholder and is none; it is printed as it stands."""
    names = _IN_BRACES.findall(text)
    return [n for n in names if n not in PLACEHOLDERS and _LIKE_A_PLACEHOLDER.fullmatch(n)]


def compile_format(text: str) -> Render:
    """Return the function that makes a line of a query and its reply."""
    values: list[Value] = []
    template = ""
    for place, part in enumerate(text.split(COMMON)):
        if place:
            template += "%s"
            values.append(_common)
        template += _take_apart(part, values)
    if len(values) == 1:
        only = values[0]
        return lambda request, reply, seconds: template % (only(request, reply, seconds),)
    return lambda request, reply, seconds: (
        template % tuple([value(request, reply, seconds) for value in values])
    )


def _take_apart(text: str, values: list[Value]) -> str:
    """Return the template of a format, and add what goes into it to `values`."""
    template, end = "", 0
    for match in _IN_BRACES.finditer(text):
        name = match[1]
        value = _metadata(name[1:]) if name.startswith("/") else PLACEHOLDERS.get(name)
        if value is not None:
            template += text[end : match.start()].replace("%", "%%") + "%s"
            values.append(value)
            end = match.end()
    return template + text[end:].replace("%", "%%")
