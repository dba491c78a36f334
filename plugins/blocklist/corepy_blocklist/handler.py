"""The handler of *blocklist*: applies the rules to queries and to replies.

The usual query pays for `Table.find`, and for a look at the types of the records in its reply.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.address import address_bytes
from corepy.dns.form_error import FormError
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, apply_step, plugin_logger
from corepy_blocklist.acting import alias_in, follow
from corepy_blocklist.inspecting import find_in_reply, may_have_aliases
from corepy_blocklist.metrics import HITS
from corepy_blocklist.rule import CLIENT_IP, NSDNAME, RESPONSE_IP, Action

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy.plugin import ZoneMatcher
    from corepy.plugin.handler import Answer
    from corepy.plugin.metrics import Value
    from corepy_blocklist.acting import ActionSettings
    from corepy_blocklist.lists import Lists
    from corepy_blocklist.rule import Rule
    from corepy_blocklist.table import Table

LABELS: Final = ("blocklist/action", "blocklist/list", "blocklist/line")
"""The labels of a query that a rule applies to, in `Request.metadata`."""

_OPCODE: Final = 0x78
_NO_SOURCE: Final = 1 << 16
_log = plugin_logger("blocklist")


class Blocklist(FastHandler, ExplainedHandler):
    """One *blocklist* directive.

    Its replies depend on query and table alone, so the packet cache may repeat them. Each change of
    the table clears the packet caches. While rules for clients are in use, no reply has a deadline.
    """

    name: ClassVar[str] = "blocklist"
    cacheability = Cacheability.OBSERVES

    def __init__(
        self,
        lists: Lists,
        zones: ZoneMatcher | None,
        actions: ActionSettings,
        *,
        inspects_aliases: bool = True,
        logs_hits: bool = False,
        denies_clients: bool = False,
    ) -> None:
        """Apply rules to queries for names in `zones`, None for all.

        `inspects_aliases` applies them to the targets of aliases in replies as well.
        `denies_clients` is whether `lists` may have rules for clients.
        """
        self.lists = lists
        self.denies_clients = denies_clients
        self._zones = zones
        self._actions = actions
        self._inspects_aliases = inspects_aliases
        self._logs_hits = logs_hits
        self._counters: dict[tuple[str, str, str], Value] = {}

    @property
    def inputs(self) -> bytes | None:
        """A digest of the files; None before they are loaded."""
        table = self.lists.table
        return None if table is None else table.digest

    def begin_dns(self, request: Request) -> Answer:
        """Return the reply of the rule that applies, or pass the query on."""
        table = self.lists.table
        if table is None or request.qclass != c.CLASS_IN or request.wire[2] & _OPCODE:
            return self.next.begin_dns(request)
        if self._zones is not None and self._zones.find(request.name_wire) is None:
            return self.next.begin_dns(request)
        rule = table.find(request.name_wire)
        others = table.first_of
        if others:
            rule, must_wait = _find_for_client(table, request, rule)
            if rule is not None and not must_wait:
                return self._begin_rule(table, rule, request)
        elif rule is not None:
            return self._begin_rule(table, rule, request)
        elif not self._inspects_aliases:
            return self.next.begin_dns(request)
        answer = self.next.begin_dns(request)
        if table.has_aliases:
            return self._inspect_later(table, rule, request, answer)
        if type(answer) is Reply:
            if not others and not may_have_aliases(request, answer):
                return answer
            return self._inspect(table, rule, request, answer) or answer
        return apply_step(answer, partial(self._inspect, table, rule), request)

    def _begin_rule(self, table: Table, rule: Rule, request: Request) -> Answer:
        """Apply a rule to a query that was not passed on yet."""
        if self._passes(rule, request):
            counter = self._note(table, rule, request)
            step = partial(self._count_repetitions, table, counter)
            return apply_step(self.next.begin_dns(request), step, request)
        if rule.action is Action.LOCAL_DATA:
            alias = alias_in(table.records(rule), request)
            if alias is not None:
                self._note(table, rule, request)
                return follow(request, alias)
        reply = self._act(table, rule, request)
        self._allow_repetition(table, rule, request, reply, request.received)
        return reply

    def _passes(self, rule: Rule, request: Request) -> bool:
        """Return whether a rule exempts the query from all others."""
        if rule.action is Action.TCP_ONLY:
            return request.context.protocol != "udp"
        return rule.action is Action.PASSTHRU

    def _act(self, table: Table, rule: Rule, request: Request) -> Reply:
        action = self._action(rule)
        records = table.records(rule) if action is Action.LOCAL_DATA else ()
        return self._actions.reply(request, action, records)

    def _action(self, rule: Rule) -> Action:
        return self._actions.listed if rule.action is Action.LISTED else rule.action

    def _allow_repetition(
        self, table: Table, rule: Rule, request: Request, reply: Reply, now: float
    ) -> None:
        """Count the rule, and let the packet cache repeat its reply for the TTL."""
        counter = self._note(table, rule, request)
        if reply.is_dropped or reply.tc or self._logs_hits or CLIENT_IP in table.first_of:
            return
        reply.since, reply.deadline = now, now + self._lifetime(table, rule)
        reply.hit_counters = (counter,)

    def _lifetime(self, table: Table, rule: Rule) -> int:
        if rule.action is not Action.LOCAL_DATA:
            return self._actions.ttl
        return min([self._actions.ttl, *(it.ttl for it in table.records(rule))])

    def _inspect(
        self, table: Table, rule: Rule | None, request: Request, reply: Reply | None
    ) -> Reply | None:
        """Apply the rules to a reply, as a step; `rule` is that of the query, which had to wait."""
        if reply is None:
            return None
        found = self._find_in_reply(table, rule, request, reply)
        if found is None:
            if table is not self.lists.table or CLIENT_IP in table.first_of:
                reply.deadline = None
            return reply
        return self._replace(table, found, request, reply)

    async def _inspect_later(
        self, table: Table, rule: Rule | None, request: Request, answer: Answer
    ) -> Reply:
        """As `_inspect`, and follow the aliases of local data."""
        waiting: Any = answer
        reply: Reply = waiting if type(answer) is Reply else await waiting
        found = self._find_in_reply(table, rule, request, reply)
        if found is not None and found.action is Action.LOCAL_DATA:
            alias = alias_in(table.records(found), request)
            if alias is not None:
                self._note(table, found, request)
                return await follow(request, alias)
        return self._inspect(table, rule, request, reply) or reply

    def _find_in_reply(
        self, table: Table, rule: Rule | None, request: Request, reply: Reply
    ) -> Rule | None:
        if reply.is_dropped or reply.series is not None:
            return rule
        try:
            aliases = self._inspects_aliases
            return find_in_reply(table, request, reply, rule, inspects_aliases=aliases)
        except FormError:
            return rule  # the server reports the reply

    def _replace(self, table: Table, rule: Rule, request: Request, reply: Reply) -> Reply:
        """Return the reply of a rule in place of the one from below."""
        if self._passes(rule, request):
            counter = self._note(table, rule, request)
            return self._count_repetitions(table, counter, request, reply) or reply
        made = self._act(table, rule, request)
        self._allow_repetition(table, rule, request, made, time.monotonic())
        if made.deadline is not None:
            is_current = table is self.lists.table and reply.deadline is not None
            made.deadline = min(made.deadline, reply.deadline or 0.0) if is_current else None
        return made

    def _count_repetitions(
        self, table: Table, counter: Value, request: Request, reply: Reply | None
    ) -> Reply | None:
        """Count the repetitions of a reply that a rule exempts from others, as a step."""
        if reply is not None and reply.deadline is not None:
            if CLIENT_IP in table.first_of or table is not self.lists.table or self._logs_hits:
                reply.deadline = None
            else:
                reply.hit_counters += (counter,)
        return reply

    def _note(self, table: Table, rule: Rule, request: Request) -> Value:
        """Count and log the rule, set the labels, and return the counter."""
        action = self._action(rule).word
        path, line = self.lists.path_of(table, rule), table.line_of(rule)
        request.metadata.update(zip(LABELS, (action, path, str(line)), strict=True))
        if self._logs_hits:
            client, port = request.remote
            _log.info(
                '%s:%d "%s %s" %s by %s:%d',
                client, port, request.type, request.name, action, path, line,
            )  # fmt: skip
        labels = request.context.server, path, action
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = HITS.labels(*labels)
        counter.value += 1
        return counter

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the rule that applies, or applied to the reply from below."""
        table = self.lists.table
        if table is None:
            return {"state": "not loaded"}
        if self._zones is not None and self._zones.find(request.name_wire) is None:
            return {"state": "the name is outside its zones"}
        rule, must_wait = _find_for_client(table, request, table.find(request.name_wire))
        if rule is not None and not must_wait:
            where: dict[str, str | int] = {
                "list": self.lists.path_of(table, rule),
                "line": table.line_of(rule),
            }
            return {"state": self._action(rule).word, **where}
        if reply is not None and LABELS[0] in request.metadata:
            action, path, line = (str(request.metadata.get(label)) for label in LABELS)
            return {"state": f"{action}: a rule for the reply", "list": path, "line": line}
        state = "no rule for the query" if rule is None else "rules for the reply come first"
        return {"state": state, "rules": table.count}


def _find_for_client(table: Table, request: Request, rule: Rule | None) -> tuple[Rule | None, bool]:
    """Return the rule for a query, and whether a rule for its reply may precede it.

    `rule` is that for its name. Of one source, a rule for the client precedes it.
    """
    first_of = table.first_of
    if CLIENT_IP in first_of:
        other = table.find_address(CLIENT_IP, address_bytes(request.client))
        if other is not None and (rule is None or other.source <= rule.source):
            rule = other
    earliest = min(first_of.get(kind, _NO_SOURCE) for kind in (RESPONSE_IP, NSDNAME))
    return rule, rule is not None and earliest < rule.source
