"""Text with placeholders for a query and its reply (CoreDNS: plugin/pkg/replacer).

*log* formats its lines with it, *dnstap* the field `extra` of its messages. A format is parsed
once, at setup. Each query then runs only the functions in `CONSTANT` and `VARYING` and one `%` of a
prepared template, which is faster in Python than joining pieces. A placeholder's function must be
cheap and must not fail, regardless of the message. Its result must have no control characters;
otherwise a client could write lines of its own into the log.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from corepy.dns import constants as c
from corepy.dns import finish
from corepy.dns.address import host_port
from corepy.dns.names import to_text
from corepy.plugin.failures import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, Request

    Constant = Callable[[Request, Reply], object]
    """Value of a placeholder for a question and its reply: the same for each repetition."""

    Varying = Callable[[bytes, object, float], object]
    """Value for one query, from (ID, the client's socket address, seconds until the reply)."""

EMPTY: Final = "-"
"""The value of metadata that is not set, and of the rcode and flags of a dropped query."""

OF_REPLY: Final = ("rcode", "rsize", "duration", ">rflags")
"""The placeholders whose value depends on the reply."""

_EXCHANGE: Final = (
    '{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize}'
)
_CLIENT: Final = "{remote}:{port}"
COMMON: Final = f'{_CLIENT} - {{>id}} "{_EXCHANGE} {{duration}}'
COMBINED: Final = COMMON + ' "{>opcode}"'

_OPT_SIZE: Final = 11
_NO_PORT: Final = bytes(2)
_IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_UNIT: Final = re.compile("|".join((re.escape(_EXCHANGE), re.escape(_CLIENT), _IN_BRACES.pattern)))
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

# The same names are queried again and again.
_name: Final = lru_cache(maxsize=1024)(to_text)


@lru_cache(maxsize=1024)
def _flags(word: bytes) -> str:
    bits = int.from_bytes(word, "big")
    return ",".join(name for name, bit in _FLAGS if bits & bit)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@lru_cache(maxsize=1024)
def _host_of(sockaddr: bytes) -> str:
    return _bracketed(host_port(sockaddr)[0])


def _host(ident: bytes, peer: object, seconds: float) -> str:
    """Return the client's address, cached by host, because ports change with each query.

    In a sockaddr the port is the third and fourth byte in both families (ip(7), ipv6(7)).
    """
    if type(peer) is bytes and len(peer) > 4:
        return _host_of(peer[:2] + _NO_PORT + peer[4:])
    return _bracketed(host_port(peer)[0])


def _port(ident: bytes, peer: object, seconds: float) -> int:
    if type(peer) is bytes and len(peer) > 4:
        return peer[2] << 8 | peer[3]
    return host_port(peer)[1]


def _client(ident: bytes, peer: object, seconds: float) -> str:
    """Return the value of `_CLIENT` with a single call."""
    if type(peer) is bytes and len(peer) > 4:
        return f"{_host_of(peer[:2] + _NO_PORT + peer[4:])}:{peer[2] << 8 | peer[3]}"
    host, port = host_port(peer)
    return f"{_bracketed(host)}:{port}"


def _duration(ident: bytes, peer: object, seconds: float) -> str:
    return ("%.9f" % seconds).rstrip("0").rstrip(".") + "s"  # noqa: UP031 - faster than an f-string


def _rcode(request: Request, reply: Reply) -> object:
    if reply.is_dropped:
        return EMPTY
    rcode = reply.extended_rcode << 4 | reply.wire[3] & 15
    return _RCODES.get(rcode, rcode)


def _reply_size(request: Request, reply: Reply) -> int:
    if reply.is_dropped:
        return 0
    if reply.series is not None:
        return reply.series.size
    if request.edns is None:
        return len(reply.wire)
    return len(reply.wire) + _OPT_SIZE + len(reply.options)


def _reply_flags(request: Request, reply: Reply) -> str:
    """Return the flags that are sent: TC is set after the chain, if the reply does not fit."""
    wire = reply.wire
    if reply.is_dropped:
        return EMPTY
    if _reply_size(request, reply) > request.size:
        wire = finish(request, reply)
    return _flags(wire[2:4])


def _class(number: int) -> str:
    """Return the class as miekg/dns writes it: "ANY" would also be a type."""
    return "CLASS255" if number == c.CLASS_ANY else c.class_name(number)


CONSTANT: Final[dict[str, Constant]] = {
    "type": lambda q, r: c.type_name(q.qtype),
    "name": lambda q, r: _name(q.name_wire),
    "class": lambda q, r: _class(q.qclass),
    "proto": lambda q, r: q.context.network,
    "size": lambda q, r: len(q.wire),
    "local": lambda q, r: _bracketed(q.local_address[0]),
    ">opcode": lambda q, r: q.wire[2] >> 3 & 15,
    ">do": lambda q, r: "true" if q.do else "false",
    ">bufsize": lambda q, r: q.size,
    "rcode": _rcode,
    "rsize": _reply_size,
    ">rflags": _reply_flags,
}
VARYING: Final[dict[str, Varying]] = {
    "remote": _host,
    "port": _port,
    ">id": lambda ident, peer, seconds: ident[0] << 8 | ident[1],
    "duration": _duration,
}


def _exchange(request: Request, reply: Reply) -> str:
    """Return the value of `_EXCHANGE` with a single call, because most lines have it.

    Ten calls would be expensive.
    """
    answer, edns = reply.wire, request.edns
    rcode = reply.extended_rcode << 4 | answer[3] & 15
    size, most = len(answer), request.size
    if edns is not None:
        size += _OPT_SIZE + len(reply.options)
    flags = _flags(answer[2:4]) if size <= most else _reply_flags(request, reply)
    name = _RCODES.get(rcode, rcode)
    if reply.is_dropped:
        name, flags, size = EMPTY, EMPTY, 0
    elif reply.series is not None:
        size = reply.series.size
    return (
        f"{c.type_name(request.qtype)} {_class(request.qclass)} {_name(request.name_wire)} "
        f"{request.context.network} {len(request.wire)} "
        f'{"true" if edns is not None and edns.do else "false"} {most}" '
        f"{name} {flags} {size}"
    )


_CONSTANT_UNITS: Final = {f"{{{name}}}": value for name, value in CONSTANT.items()}
_CONSTANT_UNITS[_EXCHANGE] = _exchange
_VARYING_UNITS: Final = {f"{{{name}}}": value for name, value in VARYING.items()}
_VARYING_UNITS[_CLIENT] = _client


def _metadata(label: str) -> Constant:
    def value(request: Request, reply: Reply) -> object:
        metadata: Any = request.metadata  # perhaps a dictionary with methods of its own
        try:
            text = str(metadata.get(label, EMPTY))
        except Exception as error:  # of the plugin that provides it; the query must not fail
            plugin = label.partition("/")[0]
            report(plugin, "exception", f"failed to provide the metadata {label!r}", error)
            return EMPTY
        return text if text.isprintable() else _escape(text)

    return value


def _escape(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def expand(text: str) -> str:
    """Return a format with `{common}` and `{combined}` expanded."""
    return text.replace("{common}", COMMON).replace("{combined}", COMBINED)


def unknown_placeholders(text: str) -> list[str]:
    """Return unknown names in braces that look like placeholders; they are printed unchanged."""
    names = _IN_BRACES.findall(text)
    known = {*CONSTANT, *VARYING}
    return [n for n in names if n not in known and _LIKE_A_PLACEHOLDER.fullmatch(n)]


def labels(text: str) -> list[str]:
    """Return the labels of metadata in a format, `{/LABEL}`."""
    return [name[1:] for name in _IN_BRACES.findall(text) if name.startswith("/")]


def without_reply(text: str) -> str:
    """Return a format for a query that has no reply yet: `EMPTY` replaces the values of a reply."""
    for name in OF_REPLY:
        text = text.replace(f"{{{name}}}", EMPTY)
    return text


class Format:
    """A parsed format, which builds a line in two steps.

    A reply from the packet cache needs only the second step: `fix` returns the result of the first.
    """

    def __init__(self, text: str) -> None:
        self.names = frozenset(_IN_BRACES.findall(text))
        """The texts in braces."""
        self._varying: list[Varying] = []
        self._constants: list[Constant] = []
        template, end = "", 0
        for match in _UNIT.finditer(text):
            place = self._place(match[0])
            if place:
                template += _escape_percent(text[end : match.start()]) + place
                end = match.end()
        template += _escape_percent(text[end:])
        self._template = template

    def _place(self, unit: str) -> str:
        """Add one or several placeholders; returns the place in the template, empty if unknown."""
        varying = _VARYING_UNITS.get(unit)
        if varying is not None:
            self._varying.append(varying)
            return "%%s"  # for the second step
        is_metadata = unit.startswith("{/")
        constant = _metadata(unit[2:-1]) if is_metadata else _CONSTANT_UNITS.get(unit)
        if constant is None:
            return ""
        self._constants.append(constant)
        return "%s"

    def fix(self, request: Request, reply: Reply | None) -> str:
        """Return the line for this reply to this question, with the varying values left open.

        `reply` may be None for a format made of the result of `without_reply`.
        """
        values = []
        for constant in self._constants:
            text = str(constant(request, reply))  # type: ignore[arg-type]  # see above
            values.append(text.replace("%", "%%") if "%" in text else text)
        return self._template % tuple(values)

    def line(self, fixed: str, ident: bytes, peer: object, seconds: float) -> str:
        """Return the line for a query with the ID `ident` from `peer`."""
        values = []
        for varying in self._varying:
            values.append(varying(ident, peer, seconds))  # noqa: PERF401 - costs a call in 3.11
        return fixed % tuple(values)


def _escape_percent(text: str) -> str:
    """Return text that both formatting steps turn into `text`."""
    return text.replace("%", "%%%%")
