"""The handler that allows or denies queries (CoreDNS: plugin/acl/acl.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import Reply
from corepy.dns.constants import REFUSED
from corepy.dns.edns import EDE_BLOCKED, EDE_FILTERED, ede
from corepy.dns.names import InvalidName, from_text, lower
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    ZoneMatcher,
    apply_step,
    plugin_logger,
    without_deadline,
)
from corepy_acl.metrics import ALLOWED, BLOCKED, DROPPED, FILTERED
from corepy_acl.networks import SOCKADDR_IN, SOCKADDR_IN6, key_of
from corepy_acl.rule import NO_ADDRESS, Action, ZoneRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Request, RequestContext
    from corepy.plugin.handler import Answer
    from corepy.plugin.metrics import Value
    from corepy_acl.rule import Policy, Rule

_SECONDS_BETWEEN_ERRORS: Final = 10.0

MOST_NAMES: Final = 1024
"""Names whose rules are kept, about 150 bytes each; then all of them are forgotten."""

LOG = plugin_logger("acl")


class ACL(FastHandler, ExplainedHandler):
    """All *acl* directives of a block.

    The first matching policy of a rule decides; without one, the next rule; without any, the query
    is allowed. Where the verdict depends on the client, the packet cache must not repeat a reply,
    so it gets no deadline; if the verdict depends on it for all queries of the block, cacheability
    is UNSAFE, which is cheaper. `denies_clients` keeps other caches from being above.
    """

    name: ClassVar[str] = "acl"
    inputs = b""

    def __init__(self, rules: Sequence[Rule], block_zones: Sequence[str] = (".",)) -> None:
        """Take the rules in the order of the Corefile, and the zones of the server block."""
        self.rules = tuple(rules)
        zones = dict.fromkeys(zone for rule in rules for zone in rule.zones.zones)
        self._zones = ZoneMatcher(zones)
        self._rules_of = {zone: ZoneRules(zone, rules) for zone in zones}
        self._by_zone: dict[str | None, ZoneRules] = {None: ZoneRules(".", ())}
        for zone in zones:
            self._by_zone[zone] = self._rules_of[zone]
        self._everywhere = self._rules_of["."] if set(zones) == {"."} else None
        self._by_name: dict[bytes, ZoneRules] = {}
        """The rules for some names in wire form, so that hot names need no search."""

        self._allowed: dict[tuple[str, str], Value] = {}
        self._context: RequestContext | None = None
        self._allowed_here: Value  # for the context of the last query
        self._quiet_until = 0.0
        self.denies_clients = not all(it.never_depends for it in self._rules_of.values())
        if self._always_depends(block_zones):
            self.cacheability = Cacheability.UNSAFE
        else:
            self.cacheability = Cacheability.OBSERVES
        self._is_unsafe = self.cacheability is Cacheability.UNSAFE

    def begin_dns(self, request: Request) -> Answer:
        """Deny the query, or return the next handler's answer."""
        # It runs for each query that the packet cache does not answer, so it makes as few calls as
        # possible: a client that was allowed before is recognized by the bytes of its address.
        rules = self._everywhere
        if rules is None:
            known, name = self._by_name, request.name_wire
            rules = known[name] if name in known else self._rules_for(name)
        by_type, qtype, client = rules.by_type, request.qtype, request.client
        verdicts = by_type[qtype] if qtype in by_type else rules.others  # noqa: SIM401  # `get` is a call
        address = b""
        if type(client) is bytes:
            if len(client) == SOCKADDR_IN:
                address = client[4:8]
            elif len(client) == SOCKADDR_IN6:
                address = client[8:24]
        if address not in verdicts.allowed:
            policy, zone = verdicts.find(key_of(client))
            if policy is not None and policy.action is not Action.ALLOW:
                return self._deny(request, policy, zone)
            if address:
                verdicts.remember(address)
        context = request.context
        allowed = self._allowed_here if context is self._context else self._allowed_in(context)
        allowed.value += 1
        answer = self.next.begin_dns(request)
        if self._is_unsafe:
            return answer
        depends = verdicts.depends_on_client
        if type(answer) is not Reply:
            step = without_deadline if depends else self._count_repetitions
            return apply_step(answer, step, request)
        if answer.deadline is not None:
            if depends:
                answer.deadline = None
            else:
                answer.hit_counters += (allowed,)
        return answer

    def _always_depends(self, block_zones: Sequence[str]) -> bool:
        """Return whether there is no query for which all clients get the same verdict."""
        if not all(it.always_depends for it in self._rules_of.values()):
            return False
        covering = [self._zones.find(zone) for zone in map(_wire, block_zones) if zone is not None]
        return bool(covering) and None not in covering

    def _rules_for(self, name: bytes) -> ZoneRules:
        """Return the rules for a name in wire form, and keep them for its next query."""
        if len(self._by_name) >= MOST_NAMES:
            self._by_name.clear()
        return self._by_name.setdefault(name, self._by_zone[self._zones.find(name)])

    def _count_repetitions(self, request: Request, reply: Reply | None) -> Reply | None:
        """Count the repetitions of a reply that the packet cache may repeat."""
        if reply is not None and reply.deadline is not None:
            reply.hit_counters += (self._allowed_in(request.context),)
        return reply

    def _allowed_in(self, context: RequestContext) -> Value:
        """Return the counter for a listener and zone; consecutive queries mostly share them."""
        labels = context.server, context.view
        allowed = self._allowed.get(labels)
        if allowed is None:
            allowed = self._allowed[labels] = ALLOWED.labels(*labels)
        self._context, self._allowed_here = context, allowed
        return allowed

    def _deny(self, request: Request, policy: Policy, zone: str) -> Reply:
        context = request.context
        labels = (context.server, zone, context.view)
        if policy is NO_ADDRESS:
            self._report(request)
        if policy.action is Action.BLOCK:
            BLOCKED.labels(*labels).inc()
            return request.error(REFUSED, ede=(EDE_BLOCKED, ""))
        if policy.action is Action.FILTER:
            FILTERED.labels(*labels).inc()
            # AA: glibc takes an empty reply without it, RA and OPT for a referral, and asks again.
            reply = request.reply(authoritative=True)
            reply.options = ede(EDE_FILTERED)
            return reply
        DROPPED.labels(*labels).inc()
        return request.drop()

    def _report(self, request: Request) -> None:
        """Log a client without an IP address, which another plugin must have set."""
        if request.received >= self._quiet_until:
            self._quiet_until = request.received + _SECONDS_BETWEEN_ERRORS
            LOG.error("a query is blocked: its client has no IP address: %r", request.client)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the verdict on the query, and the rule that it comes from."""
        zone = self._zones.find(request.name_wire)
        if zone is None:
            return {"state": "allow: the name is outside its zones"}
        policy, label = self._rules_of[zone].find(request.qtype, key_of(request.client))
        if policy is None:
            return {"state": "allow: no rule matches"}
        rule = policy.place or "none, since the client has no IP address"
        return {"state": policy.action.value, "zone": label, "rule": rule}


def _wire(zone: str) -> bytes | None:
    try:
        return lower(from_text(zone))
    except InvalidName:  # no query is for such a name
        return None
