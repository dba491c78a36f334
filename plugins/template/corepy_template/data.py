"""The data of a template: the fields of its dot (plugin/template: templateData)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.dns import constants as c
from corepy_template.values import Struct

if TYPE_CHECKING:
    from corepy.dns import Edns, Request


_NO_VARIABLES: Final[Mapping[str, object]] = {}


class Question(Struct):
    """The question section, `.Question`."""

    go_type = "*dns.Question"
    FIELDS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "Name": lambda question: question.request.qname,
        "Qtype": lambda question: question.request.qtype,
        "Qclass": lambda question: question.request.qclass,
    }

    def __init__(self, request: Request) -> None:
        self.request = request

    def __str__(self) -> str:
        request = self.request
        return f";{request.qname}\t{request.class_}\t {request.type}"


class Opt(Struct):
    """The client's EDNS OPT record, `.Message.IsEdns0`."""

    go_type = "*dns.OPT"
    FIELDS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "Do": lambda opt: opt.edns.do,
        "UDPSize": lambda opt: opt.edns.udp_size,
        "Version": lambda opt: opt.edns.version,
    }

    def __init__(self, edns: Edns) -> None:
        self.edns = edns


class Message(Struct):
    """The whole query, `.Message`: its header, question and EDNS OPT record."""

    go_type = "*dns.Msg"
    FIELDS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "Id": lambda message: message.request.id,
        "Response": lambda message: False,
        "Opcode": lambda message: message.request.opcode,
        "Authoritative": lambda message: message.has(c.FLAG_AA),
        "Truncated": lambda message: message.has(c.FLAG_TC),
        "RecursionDesired": lambda message: message.has(c.FLAG_RD),
        "RecursionAvailable": lambda message: message.has(c.FLAG_RA),
        "Zero": lambda message: message.has(0x0040),
        "AuthenticatedData": lambda message: message.has(c.FLAG_AD),
        "CheckingDisabled": lambda message: message.has(c.FLAG_CD),
        "Rcode": lambda message: message.request.flags & 15,
        "Question": lambda message: (Question(message.request),),
        "IsEdns0": lambda message: Opt(message.request.edns) if message.request.edns else None,
        "Len": lambda message: len(message.request.wire),
    }

    def __init__(self, request: Request) -> None:
        self.request = request

    def has(self, flag: int) -> bool:
        """Return whether a flag of the header is set."""
        return self.request.flags & flag != 0


class Data(Struct):
    """The dot of a template: a query that a *template* directive matched."""

    go_type = "*template.templateData"
    FIELDS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "Zone": lambda data: data.zone,
        "Name": lambda data: data.request.name,
        "Regex": lambda data: data.regex,
        "Match": lambda data: data.match,
        "Group": lambda data: data.group,
        "Class": lambda data: data.class_,
        "Type": lambda data: data.type,
        "Message": lambda data: Message(data.request),
        "Question": lambda data: Question(data.request),
        "Remote": lambda data: data.request.remote[0],
        "Var": lambda data: data.variables,
    }
    METHODS: ClassVar[Mapping[str, Callable[[Any, str], object]]] = {
        "Meta": lambda data, label: str(data.request.metadata.get(label, "")),
    }

    __slots__ = ("class_", "group", "match", "regex", "request", "type", "variables", "zone")

    def __init__(
        self, request: Request, zone: str, type_and_class: tuple[str, str], regex: str,
        match: Sequence[str], groups: Mapping[str, int],
    ) -> None:  # fmt: skip
        """`match` has the whole match and its groups; `groups` maps names to group numbers."""
        self.request = request
        self.zone = zone
        self.type, self.class_ = type_and_class
        self.regex = regex
        self.variables: Mapping[str, object] = _NO_VARIABLES
        self.match = match
        self.group = {str(number): text for number, text in enumerate(match)}
        for name, number in groups.items():
            self.group[name] = match[number]


FIELDS = frozenset((*Data.FIELDS, *Data.METHODS))
