"""A query on its way down the chain; `Reply` and `finish` are here too, for one import.

A request is made for every query that no cache answers, so it holds the bytes and as little else as
possible. What costs more than an arithmetic operation and not everybody wants is a `_Lazy`: who
never asks for the name as text never pays for it. No `__getattr__`: with it, the interpreter would
look up every attribute of a request the slow way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final

from corepy.dns import constants as c
from corepy.dns.address import host_port
from corepy.dns.edns import OPT_SIZE, Edns, read_opt, read_short
from corepy.dns.edns import ede as ede_option
from corepy.dns.errors import FormError
from corepy.dns.names import MAX_NAME, to_text
from corepy.dns.reply import Reply as Reply
from corepy.dns.reply import finish as finish
from corepy.dns.wire import counts as count_records
from corepy.dns.wire import scan, skip_name

if TYPE_CHECKING:
    from dnslib import RR, DNSRecord

# The four counts of the header as one number.
_PLAIN: Final = 0x0001_0000_0000_0000  # a query without EDNS
_WITH_OPT: Final = 0x0001_0000_0000_0001
_ONE_QUESTION: Final = b"\0\1\0\0\0\0\0\0"
_LAST_NAME_END: Final = c.HEADER_SIZE + MAX_NAME - 1
_NAME_TOO_LONG: Final = "name is longer than 255 bytes"

_unpack_header = Struct("!HHQ").unpack_from
_unpack_question = Struct("!HH").unpack_from
_pack_question = Struct("!HH").pack
_pack_header = Struct("!HHHHHH").pack
_new = object.__new__

# Filled by the server, carried over by `Request.derive`.
_SERVER_SLOTS: Final = (
    "proto", "peer", "local", "received", "server", "zone", "view", "metadata", "router", "site",
    "repeats",
)  # fmt: skip


class _Lazy:
    """An attribute that is found out at its first reading and kept in the slot `_` + its name."""

    __slots__ = ("_fill", "_slot")

    def __init__(self, fill: Callable[[Request], object]) -> None:
        self._fill = fill

    def __set_name__(self, owner: type, name: str) -> None:
        self._slot = f"_{name}"

    def __get__(self, request: Request | None, owner: type) -> object:
        if request is None:
            return self
        try:
            return getattr(request, self._slot)
        except AttributeError:
            value = self._fill(request)
            setattr(request, self._slot, value)
            return value

    def __set__(self, request: Request, value: object) -> None:
        setattr(request, self._slot, value)


def _record(request: Request) -> DNSRecord:
    from corepy.dns.records import parse

    return parse(request.wire)


class Request:
    """One query, made with `from_wire`; a plugin that wants it changed asks `derive`."""

    __slots__ = (
        "_class_",
        "_family",
        "_local_address",
        "_name",
        "_qname",
        "_question",
        "_record",
        "_remote",
        "_type",
        "asked",
        "edns",
        "flags",
        "id",
        "local",
        "metadata",
        "name_wire",
        "peer",
        "proto",
        "qclass",
        "qtype",
        "question_end",
        "received",
        "repeats",
        "router",
        "server",
        "site",
        "view",
        "wire",
        "zone",
    )

    # Read from the message at once.
    wire: bytes  # the message, without bytes behind its end
    id: int
    flags: int  # the header's second word
    name_wire: bytes  # the wire name asked for, in lower case
    asked: bytes  # the question section with the name in lower case
    qtype: int
    qclass: int
    question_end: int  # offset behind the question section
    edns: Edns | None

    # Set by the server; `from_wire` says what they are without one.
    proto: str  # "udp", "tcp", "tls", ...
    peer: object  # address of the client: a (host, port, ...) tuple or the bytes of a sockaddr
    local: object  # address that was asked, likewise
    router: Any  # of the generation that answers; see corepy.plugin.lookup
    site: Any  # of the server block that answers
    received: float  # monotonic seconds
    repeats: bool  # False: nobody makes use of `Reply.deadline`, so it need not be found out
    server: str  # such as "dns://:53"
    zone: str  # of the server block that answers
    view: str
    metadata: dict[str, Any]

    # Found out when first asked for.
    if TYPE_CHECKING:
        name: str  # presentation form in lower case, with the trailing dot
        qname: str  # presentation form as asked
        type: str  # such as "A" or "TYPE65280"
        class_: str  # such as "IN"
        question: bytes  # the question section as asked
        record: DNSRecord  # raises FormError where dnslib cannot hold the message
        remote: tuple[str, int]  # (IP address, port) of the client
        local_address: tuple[str, int]  # (IP address, port) that was asked
        family: int  # of the client's address: 1 is IPv4, 2 is IPv6
    else:
        name = _Lazy(lambda r: to_text(r.name_wire))
        qname = _Lazy(lambda r: to_text(r.question[:-4]))
        type = _Lazy(lambda r: c.type_name(r.qtype))
        class_ = _Lazy(lambda r: c.class_name(r.qclass))
        question = _Lazy(lambda r: r.wire[c.HEADER_SIZE : r.question_end])
        record = _Lazy(_record)
        remote = _Lazy(lambda r: host_port(r.peer))
        local_address = _Lazy(lambda r: host_port(r.local))
        family = _Lazy(lambda r: 2 if ":" in r.remote[0] else 1)

    @classmethod
    def from_wire(cls, wire: bytes) -> Request:
        """Return the query in a message; raises FormError.

        One question, at most one record in the answer and authority sections and two in the
        additional section, as in miekg/dns (acceptfunc.go): NOTIFY, IXFR and TSIG need no more.
        Header flags are not judged here but in `corepy.dns.accept`. The question's name must not be
        compressed: nothing stands in front of it that it could point to (NSD and unbound refuse it
        too).
        """
        at = 12
        if len(wire) > c.MIN_SIZE:
            skip_name(wire, at)  # stops at 255 bytes, which the faster loop below does not
        try:
            ident, flags, counts = _unpack_header(wire)
            while n := wire[at]:
                if n > 63:
                    raise FormError("bad label in the question")
                at += n + 1
            qtype, qclass = _unpack_question(wire, at + 1)
        except (IndexError, error):
            raise FormError("question is cut off") from None
        if at > _LAST_NAME_END:
            raise FormError(_NAME_TOO_LONG)
        end = at + 5
        self: Request = _new(cls)
        if counts == _PLAIN and len(wire) == end:
            self.edns = None
        elif counts == _WITH_OPT and len(wire) == end + OPT_SIZE:
            self.edns = read_short(wire[end:])
        else:
            wire, self.edns = _read_rest(wire, end)
        self.wire = wire
        self.id = ident
        self.flags = flags
        self.name_wire = name = wire[12 : at + 1].lower()
        self.asked = name + wire[at + 1 : end]
        self.qtype = qtype
        self.qclass = qclass
        self.question_end = end
        self.proto = "udp"
        self.peer = self.local = self.router = self.site = None
        self.received = 0.0
        self.repeats = True
        self.server = self.zone = self.view = ""
        self.metadata = {}
        return self

    @property
    def opcode(self) -> int:
        """The header's opcode, 0 for QUERY."""
        return self.flags >> 11 & 15

    @property
    def rd(self) -> bool:
        """Recursion desired (RFC 1035 section 4.1.1)."""
        return self.flags & c.FLAG_RD != 0

    @property
    def ad(self) -> bool:
        """The AD bit: in a query, "tell me whether it is authentic" (RFC 6840 section 5.7)."""
        return self.flags & c.FLAG_AD != 0

    @property
    def cd(self) -> bool:
        """Checking disabled (RFC 4035 section 3.2.2)."""
        return self.flags & c.FLAG_CD != 0

    @property
    def tc(self) -> bool:
        """Truncated."""
        return self.flags & c.FLAG_TC != 0

    @property
    def do(self) -> bool:
        """DNSSEC OK, false without EDNS (RFC 3225)."""
        edns = self.edns
        return edns is not None and edns.do

    @property
    def size(self) -> int:
        """Bytes of the largest reply that the client takes (plugin/pkg/edns, Size)."""
        if self.proto != "udp":
            return c.MAX_SIZE
        edns = self.edns
        if edns is None or edns.udp_size < c.MIN_SIZE:
            return c.MIN_SIZE
        return edns.udp_size

    def reply(
        self,
        rcode: int = c.NOERROR,
        answer: Iterable[RR | bytes] = (),
        authority: Iterable[RR | bytes] = (),
        additional: Iterable[RR | bytes] = (),
        authoritative: bool = False,
    ) -> Reply:
        """Return a reply with these records: dnslib's, or bytes from `corepy.dns.records.rr`."""
        from corepy.dns.records import pack_records

        # miekg/dns copies RD and CD for opcode QUERY only (SetReply).
        copied = 0x7800 if self.flags & 0x7800 else 0x0110
        question = self.question
        qname = question[:-4]
        sections = [pack_records(each, qname) for each in (answer, authority, additional)]
        flags = c.FLAG_QR | self.flags & copied | rcode & 15 | (c.FLAG_AA if authoritative else 0)
        header = _pack_header(self.id, flags, 1, *map(len, sections))
        wire = b"".join((header, question, *sections[0], *sections[1], *sections[2]))
        return Reply(wire, rcode >> 4)

    def error(
        self, rcode: int, reason: str | None = None, ede: tuple[int, str] | None = None
    ) -> Reply:
        """Return a reply without records; reason is logged by errors, ede is (info code, text).

        As miekg/dns's SetRcode does, opcode, RD and CD are the query's.
        """
        wire = self.wire
        flags = bytes((0x80 | wire[2] & 0x79, wire[3] & 0x10 | rcode & 15))
        reply = Reply(wire[:2] + flags + _ONE_QUESTION + wire[12 : self.question_end], rcode >> 4)
        reply.error = reason
        if ede is not None:
            reply.options = ede_option(*ede)
        return reply

    def derive(
        self,
        *,
        name_wire: bytes | None = None,
        qtype: int | None = None,
        qclass: int | None = None,
        flags_set: int = 0,
        flags_clear: int = 0,
        do: bool | None = None,
        udp_size: int | None = None,
        options: bytes | None = None,
    ) -> Request:
        """Return a changed copy that keeps what the server filled in; metadata is shared.

        do, udp_size (bytes) and options (the OPT record's rdata) add EDNS to a query without.
        Records other than OPT are not carried over.
        """
        name = self.question[:-4] if name_wire is None else name_wire
        edns = self.edns
        if not (do is None and udp_size is None and options is None):
            edns = (edns or Edns()).replace(do=do, udp_size=udp_size, options=options)
        wire = query(
            name,
            self.qtype if qtype is None else qtype,
            self.qclass if qclass is None else qclass,
            ident=self.id,
            flags=self.flags & ~flags_clear | flags_set,
            edns=edns,
        )
        changed = Request.from_wire(wire)
        for slot in _SERVER_SLOTS:
            setattr(changed, slot, getattr(self, slot))
        return changed

    def with_flags(self, flags_set: int) -> Request:
        """Return a copy that has these header flags set as well: what `derive` does, for less."""
        copy: Request = _new(Request)
        wire, flags = self.wire, self.flags | flags_set
        copy.wire = b"".join((wire[:2], flags.to_bytes(2, "big"), wire[4:]))
        copy.flags = flags
        copy.id = self.id
        copy.name_wire = self.name_wire
        copy.asked = self.asked
        copy.qtype = self.qtype
        copy.qclass = self.qclass
        copy.question_end = self.question_end
        copy.edns = self.edns
        copy.proto = self.proto
        copy.peer = self.peer
        copy.local = self.local
        copy.received = self.received
        copy.server = self.server
        copy.zone = self.zone
        copy.view = self.view
        copy.metadata = self.metadata
        copy.repeats = self.repeats
        copy.router = self.router
        copy.site = self.site
        return copy

    def set_udp_size(self, udp_size: int) -> None:
        """Change in place how many bytes the client takes over UDP; no effect without EDNS.

        For bufsize, which as in CoreDNS must work on the query that the server fits the reply to.
        """
        if self.edns is not None:
            self.edns = self.edns.replace(udp_size=udp_size)


def _read_rest(wire: bytes, end: int) -> tuple[bytes, Edns | None]:
    """Check all of an unusual query; return it cut at its end, and its EDNS. Raises FormError."""
    qd, an, ns, ar = count_records(wire)
    if qd != 1 or an > 1 or ns > 1 or ar > 2:
        raise FormError("sections hold more or less than a query may have")
    if ar == 1 and not (an or ns) and wire[end : end + 3] == b"\0\0\x29":
        edns = read_opt(wire, end)  # OPT with options, such as a cookie
        return wire[: end + OPT_SIZE + len(edns.options)], edns
    from corepy.dns.rdata import check_records

    _, opt, end = scan(wire)
    check_records(wire)
    return wire[:end], (read_opt(wire, opt) if opt else None)


def query(
    name: bytes,
    qtype: int,
    qclass: int = c.CLASS_IN,
    *,
    ident: int = 0,
    flags: int = c.FLAG_RD,
    edns: Edns | None = None,
) -> bytes:
    """Return a query's wire bytes from a wire name; nothing is checked."""
    header = _pack_header(ident, flags, 1, 0, 0, 0 if edns is None else 1)
    opt = b"" if edns is None else edns.record()
    return b"".join((header, name, _pack_question(qtype, qclass), opt))
