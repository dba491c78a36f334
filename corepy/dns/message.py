"""`Request`: a query on its way down the chain; also re-exports `Reply` and `finish`.

A request is created for every query that the packet cache does not answer, so it contains the bytes
and as little else as possible. Values that cost more than an arithmetic operation and are not
always used are properties that are computed on first access, such as the name as text.
`__getattr__` would make the interpreter look up every attribute of a request more slowly.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final

from corepy.dns import constants as c
from corepy.dns.address import host_port
from corepy.dns.context import UNROUTED, RequestContext
from corepy.dns.edns import OPT_SIZE, Edns, read_opt, read_short
from corepy.dns.edns import ede as ede_option
from corepy.dns.form_error import FormError
from corepy.dns.identity import ANONYMOUS, Identity
from corepy.dns.names import MAX_NAME, to_text
from corepy.dns.reply import Reply as Reply
from corepy.dns.reply import ReplySeries
from corepy.dns.wire import ANSWER, AUTHORITY, scan, skip_name
from corepy.dns.wire import counts as count_records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dnslib import RR, DNSRecord

    from corepy.dns.reply import Messages

# The four counts of the header as one number.
_PLAIN: Final = 0x0001_0000_0000_0000  # a query without EDNS
_WITH_OPT: Final = 0x0001_0000_0000_0001
_ONE_QUESTION: Final = b"\0\1\0\0\0\0\0\0"
_NO_RECORDS: Final = bytes(4)
_LAST_NAME_END: Final = c.HEADER_SIZE + MAX_NAME - 1
_NAME_TOO_LONG: Final = "name is longer than 255 bytes"

_unpack_header: Final = Struct("!HHQ").unpack_from
_unpack_question: Final = Struct("!HH").unpack_from
_pack_question: Final = Struct("!HH").pack
_pack_header: Final = Struct("!HHHHHH").pack


class Request:
    """One query, created with `from_wire`; a plugin makes a changed copy with `derive`."""

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
        "client",
        "context",
        "edns",
        "flags",
        "id",
        "identity",
        "local",
        "metadata",
        "name_wire",
        "peer",
        "qclass",
        "qtype",
        "question_end",
        "received",
        "wire",
    )

    # Parsed from the message at once.
    wire: bytes  # the message, without trailing bytes and TSIG record
    id: int
    flags: int  # the header's second word
    name_wire: bytes  # the QNAME in wire format, in lower case
    asked: bytes  # the question section with the name in lower case
    qtype: int
    qclass: int
    question_end: int  # offset after the question section
    edns: Edns | None

    # Set by the server; `from_wire` sets defaults.
    context: RequestContext  # listener, zone and router, shared with other queries
    received: float  # monotonic seconds
    peer: object  # where the query came from and the reply goes: an address tuple or a sockaddr
    client: object  # the client's address: that of `peer`, unless `set_client` set another one
    identity: Identity  # TLS, HTTP and TSIG facts; `ANONYMOUS` for plain DNS
    local: object  # local address that received the query, likewise
    metadata: dict[str, Any]

    # Computed on first access, by the property without the underscore.
    _name: str
    _qname: str
    _type: str
    _class_: str
    _question: bytes
    _record: DNSRecord
    _remote: tuple[str, int]
    _local_address: tuple[str, int]
    _family: int
    __deletable__ = ("_family", "_remote")  # for the compiled form

    @classmethod
    def from_wire(cls, wire: bytes) -> Request:
        """Return the query in a message; raise FormError.

        A query has one question, at most one record in the answer and authority sections each, and
        at most two in the additional section, as in miekg/dns (acceptfunc.go); NOTIFY, IXFR and
        TSIG need no more. `corepy.dns.accept` checks the header flags. The question's name must not
        be compressed, because no earlier name exists (NSD and unbound refuse it, too). A TSIG
        record is moved from the message to `identity`; it is not verified here.
        """
        at = 12
        if len(wire) > c.MIN_SIZE:
            skip_name(wire, at)  # checks the limit of 255 bytes first, unlike the faster loop below
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
        self = Request()
        self.identity = ANONYMOUS
        if counts == _PLAIN and len(wire) == end:
            self.edns = None
        elif counts == _WITH_OPT and len(wire) == end + OPT_SIZE:
            self.edns = read_short(wire[end:])
        else:
            wire, self.edns, self.identity = _read_rest(wire, end)
        self.wire = wire
        self.id = ident
        self.flags = flags
        self.name_wire = name = wire[12 : at + 1].lower()
        self.asked = name + wire[at + 1 : end]
        self.qtype = qtype
        self.qclass = qclass
        self.question_end = end
        self.context = UNROUTED
        self.peer = self.client = self.local = None
        self.received = 0.0
        self.metadata = {}
        return self

    @property
    def name(self) -> str:
        """The name in presentation form, in lower case, with the trailing dot."""
        try:
            return self._name
        except AttributeError:
            self._name = computed = to_text(self.name_wire)
            return computed

    @property
    def qname(self) -> str:
        """The name in presentation form, in the case of the query."""
        try:
            return self._qname
        except AttributeError:
            self._qname = computed = to_text(self.question[:-4])
            return computed

    @property
    def type(self) -> str:
        """The type, such as "A" or "TYPE65280"."""
        try:
            return self._type
        except AttributeError:
            self._type = computed = c.type_name(self.qtype)
            return computed

    @property
    def class_(self) -> str:
        """The class, such as "IN"."""
        try:
            return self._class_
        except AttributeError:
            self._class_ = computed = c.class_name(self.qclass)
            return computed

    @property
    def question(self) -> bytes:
        """The question section in the case of the query."""
        try:
            return self._question
        except AttributeError:
            self._question = computed = self.wire[c.HEADER_SIZE : self.question_end]
            return computed

    @property
    def record(self) -> DNSRecord:
        """The message as a dnslib object; raise FormError if dnslib cannot represent it."""
        try:
            return self._record
        except AttributeError:
            from corepy.dns.records import parse

            self._record = computed = parse(self.wire)
            return computed

    @property
    def remote(self) -> tuple[str, int]:
        """The IP address and port of the client."""
        try:
            return self._remote
        except AttributeError:
            self._remote = computed = host_port(self.client)
            return computed

    @property
    def local_address(self) -> tuple[str, int]:
        """The IP address and port that received the query."""
        try:
            return self._local_address
        except AttributeError:
            self._local_address = computed = host_port(self.local)
            return computed

    @property
    def family(self) -> int:
        """The address family of the client: 1 is IPv4, 2 is IPv6."""
        try:
            return self._family
        except AttributeError:
            self._family = computed = 2 if ":" in self.remote[0] else 1
            return computed

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
        """The AD bit; in a query it requests the AD bit in the reply (RFC 6840 section 5.7)."""
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
        """Size in bytes of the largest reply that the client accepts (plugin/pkg/edns, Size)."""
        if self.context.protocol != "udp":
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
        """Return a reply without records; *errors* logs the reason; `ede` is (info code, text).

        Opcode, RD and CD are copied from the query, as in miekg/dns's SetRcode.
        """
        wire = self.wire
        flags = bytes((0x80 | wire[2] & 0x79, wire[3] & 0x10 | rcode & 15))
        reply = Reply(wire[:2] + flags + _ONE_QUESTION + wire[12 : self.question_end], rcode >> 4)
        reply.validated, reply.validated_for = reply.wire, self.asked
        reply.error = reason
        if ede is not None:
            reply.options = ede_option(*ede)
        return reply

    def drop(self) -> Reply:
        """Return a reply that the server does not send: the client gets no answer.

        It is an empty NOERROR with `Reply.is_dropped`, so a handler above may treat it like any
        other reply. Observers count it; no cache stores it. CoreDNS: a plugin that returns NOERROR
        and writes nothing (core/dnsserver/server.go).
        """
        reply = self.error(c.NOERROR)
        reply.is_dropped = True
        return reply

    def reply_series(self, messages: Messages) -> Reply:
        """Return a reply that consists of several messages, such as a zone transfer.

        `messages` makes them lazily, each a `Reply` to this request: a generator, or an
        asynchronous one. The reply passes the handlers above as an empty NOERROR that they cannot
        change; `ReplySeries` describes the rest. Over a transport that sends one message per
        query, such as UDP, the result is REFUSED, as CoreDNS answers a transfer
        (plugin/transfer/transfer.go), and no message is made.
        """
        if not self.context.takes_series:
            return self.error(c.REFUSED)
        reply = self.error(c.NOERROR)
        reply.series = ReplySeries(messages)
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
        """Return a changed copy with the values set by the server; metadata is shared.

        `do`, `udp_size` (bytes) and `options` (the OPT record's rdata) add EDNS to a query without
        it. The records of the answer and authority sections are copied unless the name is changed:
        IXFR and NOTIFY have some (RFC 1995 section 3, RFC 1996 section 3.7).
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
        if name_wire is None and self.wire[6:10] != _NO_RECORDS:
            wire = self._with_records(wire)
        return self._copy_origin(Request.from_wire(wire))

    def _with_records(self, wire: bytes) -> bytes:
        """Return a query for the same name with the records of this one, except OPT."""
        from corepy.dns.rdata import plain_records

        sections = [b"".join(plain_records(self.wire, section)) for section in (ANSWER, AUTHORITY)]
        end = self.question_end
        return b"".join((wire[:6], self.wire[6:10], wire[10:end], *sections, wire[end:]))

    def with_flags(self, flags_set: int, flags_clear: int = 0) -> Request:
        """Return a copy with header flags set and cleared: a faster `derive`.

        All records are copied. A flag in both arguments is set.
        """
        copy = Request()
        wire, flags = self.wire, self.flags & ~flags_clear | flags_set
        copy.wire = b"".join((wire[:2], flags.to_bytes(2, "big"), wire[4:]))
        copy.flags = flags
        copy.id = self.id
        copy.name_wire = self.name_wire
        copy.asked = self.asked
        copy.qtype = self.qtype
        copy.qclass = self.qclass
        copy.question_end = self.question_end
        copy.edns = self.edns
        return self._copy_origin(copy)

    def _copy_origin(self, copy: Request) -> Request:
        """Give `copy` the values that the server has set, and return it."""
        copy.context = self.context
        copy.received = self.received
        copy.peer = self.peer
        copy.client = self.client
        copy.identity = self.identity
        copy.local = self.local
        copy.metadata = self.metadata
        return copy

    def set_client(self, address: object) -> None:
        """Set the address of the client, such as that behind a proxy; `peer` gets the reply.

        `remote` and `family` change with it.
        """
        self.client = address
        if hasattr(self, "_remote"):
            del self._remote
        if hasattr(self, "_family"):
            del self._family

    def set_udp_size(self, udp_size: int) -> None:
        """Change the client's UDP size in place; no effect without EDNS.

        For *bufsize*: as in CoreDNS, it must change the query that the server fits the reply to.
        """
        if self.edns is not None:
            self.edns = self.edns.replace(udp_size=udp_size)


def _read_rest(wire: bytes, end: int) -> tuple[bytes, Edns | None, Identity]:
    """Check all of an unusual query; return it, its EDNS, and its identity.

    The message is without trailing bytes and TSIG record. Raise FormError.
    """
    qd, an, ns, ar = count_records(wire)
    if qd != 1 or an > 1 or ns > 1 or ar > 2:
        raise FormError("sections hold more or less than a query may have")
    if ar == 1 and not (an or ns) and wire[end : end + 3] == b"\0\0\x29":
        edns = read_opt(wire, end)  # OPT with options, such as a cookie
        return wire[: end + OPT_SIZE + len(edns.options)], edns, ANONYMOUS
    from corepy.dns.rdata import check_records
    from corepy.dns.tsig import split_tsig

    _, opt, end = scan(wire)
    check_records(wire)
    wire, tsig = split_tsig(wire[:end])
    identity = ANONYMOUS if tsig is None else Identity(tsig=tsig)
    return wire, (read_opt(wire, opt) if opt else None), identity


def query(
    name: bytes,
    qtype: int,
    qclass: int = c.CLASS_IN,
    *,
    ident: int = 0,
    flags: int = c.FLAG_RD,
    edns: Edns | None = None,
) -> bytes:
    """Return a query in wire format for a wire name; arguments are not checked."""
    header = _pack_header(ident, flags, 1, 0, 0, 0 if edns is None else 1)
    opt = b"" if edns is None else edns.record()
    return b"".join((header, name, _pack_question(qtype, qclass), opt))
