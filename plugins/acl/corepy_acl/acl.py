"""The handler that allows or denies queries (CoreDNS: plugin/acl/acl.go)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.dns import Reply
from corepy.dns.constants import NOERROR, REFUSED
from corepy.dns.edns import EDE_BLOCKED, EDE_FILTERED
from corepy.dns.names import InvalidName, from_text, lower
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    Pending,
    ZoneMatcher,
    plugin_logger,
)
from corepy_acl.metrics import ALLOWED, BLOCKED, DROPPED, FILTERED
from corepy_acl.networks import key_of
from corepy_acl.rule import Action, Policy

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from corepy.dns import Request
    from corepy.plugin.handler import Answer
    from corepy.plugin.metrics import Value
    from corepy_acl.rule import Rule

_NO_ADDRESS: Final = Policy(Action.BLOCK)
"""The policy for a client without an IP address; no rule can say anything about it."""

_SECONDS_BETWEEN_ERRORS: Final = 10.0
LOG = plugin_logger("acl")


class Allowed:
    """Counts the allowed queries of one server, and those that the packet cache answers.

    A `corepy.plugin.HitCounter`.
    """

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def count_hits(self, times: int) -> None:
        """Count `times` queries that the packet cache answered."""
        self.value.value += times


class ACL(FastHandler, ExplainedHandler):
    """All *acl* directives of a block.

    The first matching policy of a rule decides; without one, the next rule; without any, the query
    is allowed. If the verdict depends on the client, the packet cache must not repeat replies, and
    no cache may be above: cacheability is UNSAFE and `denies_clients` is True.
    """

    name: ClassVar[str] = "acl"

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Take the rules in the order of the Corefile."""
        self.rules = tuple(rules)
        zones = dict.fromkeys(zone for rule in rules for zone in rule.zones.zones)
        self._zones = ZoneMatcher(zones)
        self._rules_of = {zone: _rules_for(zone, rules) for zone in zones}
        """The rules for the names in a zone, each with its own longest zone for them."""
        self._allowed: dict[tuple[str, str], Allowed] = {}
        self._quiet_until = 0.0
        self.denies_clients = not all(map(self._is_uniform, zones))
        self.cacheability = Cacheability.UNSAFE if self.denies_clients else Cacheability.OBSERVES

    def begin_dns(self, request: Request) -> Answer:
        """Deny the query, or return the next handler's answer."""
        zone = self._zones.find(request.name_wire)
        if zone is not None:
            policy, zone = self._policy(zone, request)
            if policy is not None and policy.action is not Action.ALLOW:
                return self._deny(request, policy, zone)
        context = request.context
        allowed = self._allowed.get((context.server, context.view))
        if allowed is None:
            allowed = self._new_allowed(context.server, context.view)
        allowed.value.value += 1
        if self.denies_clients:
            return self.next.begin_dns(request)
        return self._observe_hits(self.next.begin_dns(request), allowed)

    def _policy(self, zone: str, request: Request) -> tuple[Policy | None, str]:
        """Return the policy that decides, and the zone of its rule that contains the name."""
        key, qtype = key_of(request.client), request.qtype
        for rule, label in self._rules_of[zone]:
            policy = rule.segments(qtype).find(key) if key else _NO_ADDRESS
            if policy is not None:
                return policy, label
        return None, zone

    def _new_allowed(self, server: str, view: str) -> Allowed:
        allowed = self._allowed[server, view] = Allowed(ALLOWED.labels(server, view))
        return allowed

    def _deny(self, request: Request, policy: Policy, zone: str) -> Reply:
        context = request.context
        labels = (context.server, zone, context.view)
        if policy is _NO_ADDRESS:
            self._report(request)
        if policy.action is Action.BLOCK:
            BLOCKED.labels(*labels).inc()
            return request.error(REFUSED, ede=(EDE_BLOCKED, ""))
        if policy.action is Action.FILTER:
            FILTERED.labels(*labels).inc()
            return request.error(NOERROR, ede=(EDE_FILTERED, ""))
        DROPPED.labels(*labels).inc()
        return request.drop()

    def _report(self, request: Request) -> None:
        """Log a client without an IP address, which another plugin must have set."""
        if request.received >= self._quiet_until:
            self._quiet_until = request.received + _SECONDS_BETWEEN_ERRORS
            LOG.error("a query is blocked: its client has no IP address: %r", request.client)

    def _observe_hits(self, answer: Any, allowed: Allowed) -> Answer:
        """Count the queries that the packet cache answers with this reply."""
        if type(answer) is Reply:
            return _counted(allowed, answer)  # type: ignore[no-any-return]  # a Reply as well
        if type(answer) is Pending:
            answer.steps.append(partial(_counted, allowed))
            return answer
        return _count_late(allowed, answer)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the verdict on the query, and the rule that it comes from."""
        zone = self._zones.find(request.name_wire)
        if zone is None:
            return {"state": "allow: the name is outside its zones"}
        policy, label = self._policy(zone, request)
        if policy is None:
            return {"state": "allow: no rule matches"}
        rule = policy.place or "none, since the client has no IP address"
        return {"state": policy.action.value, "zone": label, "rule": rule}

    def _is_uniform(self, zone: str) -> bool:
        """Return whether all clients get the same verdict on the same query for a zone."""
        rules = [rule for rule, _ in self._rules_of[zone]]
        types = {qtype for rule in rules for qtype in rule.types}
        return all(len(_actions(rules, qtype)) == 1 for qtype in (*types, None))


def _rules_for(zone: str, rules: Sequence[Rule]) -> list[tuple[Rule, str]]:
    try:
        name = lower(from_text(zone))
    except InvalidName:  # no query is for such a name
        return []
    found = ((rule, rule.zones.find(name)) for rule in rules)
    return [(rule, label) for rule, label in found if label is not None]


def _actions(rules: Sequence[Rule], qtype: int | None) -> set[Action]:
    """Return the actions that clients may get for a query type; None stands for all others."""
    actions: set[Action] = set()
    for rule in rules:
        policies = rule.segments(qtype).policies
        actions.update(policy.action for policy in policies if policy is not None)
        if None not in policies:
            return actions
    return actions | {Action.ALLOW}


def _counted(allowed: Allowed, reply: Any) -> Any:
    """Let `allowed` count the repetitions of a reply that the packet cache may repeat."""
    if type(reply) is Reply and reply.deadline is not None:
        reply.hit_counters += (allowed,)
    return reply


async def _count_late(allowed: Allowed, answer: Coroutine[Any, Any, Reply]) -> Reply:
    reply: Reply = _counted(allowed, await answer)
    return reply
