"""The handler that answers queries from its rules (CoreDNS: plugin/template/template.go)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import FormError, Reply
from corepy.dns import constants as c
from corepy.dns.edns import ede
from corepy.dns.rdata import plain_records
from corepy.dns.wire import ANSWER
from corepy.plugin import Cacheability, ExplainedHandler, lookup
from corepy_template.metrics import MATCHES
from corepy_template.rule import WriteError

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_template.data import Data
    from corepy_template.rule import RecordWriter, TemplateRule


_ADDRESSES: Final = (c.TYPE_A, c.TYPE_AAAA)
_ONE_QUESTION: Final = b"\0\1\0\0\0\0\0\0"


class Templates(ExplainedHandler):
    """Answers from the first rule that matches; unmatched queries go to the next handler."""

    name: ClassVar[str] = "template"
    inputs: bytes | None = b""

    def __init__(self, rules: Sequence[TemplateRule]) -> None:
        self.rules = rules
        kinds = {rule.cacheability for rule in rules} - {Cacheability.SAFE}
        if kinds:
            self.cacheability = kinds.pop() if len(kinds) == 1 else Cacheability.UNSAFE
        else:
            self.cacheability = Cacheability.SAFE
        if any(rule.reads_metadata for rule in rules):
            self.inputs = None

    async def serve_dns(self, request: Request) -> Reply:
        """Return a reply from a template or from the next handler."""
        for rule in self.rules:
            zone = rule.zone_for(request)
            if zone is None:
                continue
            writer = rule.writer
            if writer is None:
                _count(rule, request, zone)
                return _bare(request, rule)
            try:
                data = writer.match(request, zone)
            except WriteError as error:
                return request.error(c.SERVFAIL, f"plugin/template: {error}")
            if data is not None:
                _count(rule, request, zone)
                return await self._reply(rule, writer, data)
            if not rule.fallthrough.passes(request.name_wire):
                return request.error(c.SERVFAIL)
        return await self.next.serve_dns(request)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str]:
        """Return which directive decides about the query, and why the ones before it do not."""
        from corepy_template.explaining import explain

        return explain(self.rules, request)

    async def _reply(self, rule: TemplateRule, writer: RecordWriter, data: Data) -> Reply:
        request = data.request
        if rule.rcode == c.SERVFAIL:
            return _bare(request, rule)
        truncated = False
        answer: list[bytes] = []
        try:
            for record in writer.records("answer", rule.answer, data):
                answer.append(record.wire)
                if record.rtype == c.TYPE_CNAME and request.qtype in _ADDRESSES:
                    found, truncated = await _resolve(request, record.rdata)
                    answer += found
            additional = [each.wire for each in writer.records("additional", rule.additional, data)]
            authority = [each.wire for each in writer.records("authority", rule.authority, data)]
        except WriteError as error:
            return request.error(c.SERVFAIL, f"plugin/template: {error}")
        reply = request.reply(rule.rcode, answer, authority, additional, authoritative=True)
        if truncated:
            reply.patch(reply.wire[:2] + bytes((reply.wire[2] | 2,)) + reply.wire[3:])
        if rule.ede is not None:
            reply.options = ede(*rule.ede)
        return reply


async def _resolve(request: Request, target: bytes) -> tuple[list[bytes], bool]:
    """Return this server's records for the target of an alias, and whether they are truncated."""
    reply = await lookup(request, target)
    try:
        return ([], False) if reply is None else (list(plain_records(reply.wire, ANSWER)), reply.tc)
    except FormError:
        return [], False


def _count(rule: TemplateRule, request: Request, zone: str) -> None:
    qtype, qclass = rule.names_of(request)
    context = request.context
    MATCHES.labels(context.server, zone, context.view, qclass, qtype).value += 1


def _bare(request: Request, rule: TemplateRule) -> Reply:
    """Return a reply without records, built from the bytes of the query."""
    rcode, wire = rule.rcode, request.wire
    if rcode == c.SERVFAIL:
        return request.error(rcode, ede=rule.ede)
    flags = bytes((0x84 | wire[2] & 0x79, wire[3] & 0x10 | rcode & 15))
    question = wire[c.HEADER_SIZE : request.question_end]
    options = b"" if rule.ede is None else ede(*rule.ede)
    return Reply(b"".join((wire[:2], flags, _ONE_QUESTION, question)), rcode >> 4, options)
