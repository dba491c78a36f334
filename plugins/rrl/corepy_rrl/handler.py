"""The handler of *rrl* (github.com/coredns/rrl: plugins/rrl/handler.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from corepy.dns import FormError
from corepy.net.connection_limit import client_number
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    ZoneMatcher,
    apply_step,
    denied_reply,
    hookimpl,
    is_lookup,
)
from corepy_rrl.accounts import ROUNDING
from corepy_rrl.category import Category, token_of
from corepy_rrl.gates import AccountGate, Limits

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import LifecycleContext
    from corepy.plugin.handler import Answer
    from corepy_rrl.gates import Settings

_TCP = "tcp"


class ResponseRateLimit(FastHandler, ExplainedHandler):
    """Denies requests and responses whose account is overdrawn."""

    name: ClassVar[str] = "rrl"
    cacheability = Cacheability.OBSERVES
    gates_hits = True
    inputs = b""

    def __init__(self, settings: Settings) -> None:
        """Take the options of the directive."""
        self.settings = settings
        self.limits = Limits(settings)
        self._zones = ZoneMatcher(settings.zones)
        self._requests = self._request_gate()

    def begin_dns(self, request: Request) -> Answer:
        """Deny the request, or return the next handler's answer, or its denial."""
        if is_lookup(request) or self._zones.find(request.name_wire) is None:
            return self.next.begin_dns(request)
        gate, is_tcp = self._requests, request.context.network == _TCP
        if gate is not None:
            denied = _denied(gate, request)
            if denied is not None:
                return denied
        if is_tcp and gate is None:
            return self.next.begin_dns(request)
        step = self._limit_repetitions if is_tcp else self._limit
        return apply_step(self.next.begin_dns(request), step, request)

    def _limit_repetitions(self, _request: Request, reply: Reply | None) -> Reply | None:
        """Keep the packet cache of a TCP listener, which asks no gates, from repeating a reply."""
        if reply is not None:
            reply.deadline = None
        return reply

    def _limit(self, request: Request, reply: Reply | None) -> Reply | None:
        """Return a reply over UDP, or its denial."""
        if reply is None or reply.is_dropped:
            return reply
        try:
            token = token_of(request, reply)
        except FormError:
            return reply  # the server rejects malformed replies and reports them
        gates: tuple[AccountGate, ...] = () if self._requests is None else (self._requests,)
        interval = self.settings.interval(token[0])
        if interval:
            gate = AccountGate(self.limits, token, interval)
            denied = _denied(gate, request)
            if denied is not None:
                return denied
            gates += (gate,)
        if reply.deadline is not None:
            reply.hit_counters += gates
        return reply

    def _request_gate(self) -> AccountGate | None:
        interval = self.settings.request_interval
        return AccountGate(self.limits, None, interval) if interval else None

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the category of the reply, and the balances of its accounts."""
        if self._zones.find(request.name_wire) is None:
            return {"state": "the name is outside its zones"}
        state: dict[str, str | int] = {}
        if self._requests is not None:
            state["requests"] = self._balance(request, self._requests)
        if reply is not None and not reply.is_dropped and request.context.network != _TCP:
            token = token_of(request, reply)
            interval = self.settings.interval(token[0])
            state["category"] = Category(token[0]).name.lower()
            if interval:
                state["responses"] = self._balance(
                    request, AccountGate(self.limits, token, interval)
                )
        return state

    def _balance(self, request: Request, gate: AccountGate) -> str:
        key = self.limits.key(client_number(request.client), gate.token)
        seconds = self.limits.accounts.balance(key, request.received)
        return f"{int(seconds / gate.interval + ROUNDING)} left of {1 / gate.interval:g} a second"

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Divide the rates among the processes of the server."""
        self.limits.processes = context.process_group.size
        self._requests = self._request_gate()


def _denied(gate: AccountGate, request: Request) -> Reply | None:
    """Debit an account; return the reply if the message is denied."""
    if gate.over_limit((client_number(request.client),), request.received):
        denial = gate.deny(request.client, request.context.server)
        if denial is not None:
            return denied_reply(request, denial)
    return None
