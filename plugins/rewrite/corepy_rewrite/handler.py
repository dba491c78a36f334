"""The handler that applies the rules to queries and replies (plugin/rewrite/rewrite.go)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from corepy.dns import FormError, Reply
from corepy.dns import constants as c
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    apply_step,
)
from corepy_rewrite.alias import AliasStep, has_aliases
from corepy_rewrite.answer import Answer
from corepy_rewrite.edns import OptionRule
from corepy_rewrite.exchange import Exchange, UnusableError
from corepy_rewrite.matching import RuleIndex
from corepy_rewrite.series import rewritten
from corepy_rewrite.steps import Renaming

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from corepy.dns import Request
    from corepy.plugin.handler import Answer as HandlerAnswer
    from corepy_rewrite.rules import Rule


class PlacedRule:
    """A rule with its place in the Corefile, and whether the rules after it are skipped."""

    __slots__ = ("location", "rule", "stops")

    def __init__(self, rule: Rule, location: str, *, stops: bool) -> None:
        self.rule = rule
        self.location = location
        self.stops = stops


class Rewrite(FastHandler, ExplainedHandler):
    """Changes queries by its rules, and the replies to them back.

    A query that no rule selects is passed on unchanged, as the same object. The chain stays safe
    for the packet cache unless a rule reads more than the query: the replies are a function of it.
    """

    name: ClassVar[str] = "rewrite"
    inputs: bytes | None = b""

    def __init__(self, rules: Sequence[PlacedRule]) -> None:
        self.rules = rules
        self._index = RuleIndex(placed.rule.selector for placed in rules)
        self.cacheability = Cacheability.combined(placed.rule.cacheability for placed in rules)
        if any(isinstance(it.rule, OptionRule) and it.rule.reads_metadata for it in rules):
            self.inputs = None  # metadata depends on the directives above

    def begin_dns(self, request: Request) -> HandlerAnswer:
        """Return the next handler's answer to the changed query, changed back."""
        found = self._index.find(request)
        if not found:
            return self.next.begin_dns(request)
        try:
            exchange, _ = self._rewrite(request, found)
            asked = exchange.asked()
        except UnusableError as error:
            return _failure(request, error)
        answer = self.next.begin_dns(asked)
        if not exchange.steps and asked is request:
            return answer
        if exchange.follows_aliases:
            return self._with_aliases(exchange, asked, answer)
        return apply_step(answer, partial(_conclude, exchange, asked), request)

    def _rewrite(self, request: Request, found: Sequence[int]) -> tuple[Exchange, list[PlacedRule]]:
        """Apply rules to a query that those with the numbers `found` select.

        Return the result, and the rules that applied. Raises UnusableError.
        """
        exchange = Exchange(request)
        applied: list[PlacedRule] = []
        numbers = sorted(found)
        while numbers:
            number = numbers.pop(0)
            placed, question = self.rules[number], exchange.question
            if not placed.rule.apply(exchange):
                continue
            applied.append(placed)
            if placed.stops:
                return exchange, applied
            if exchange.question != question:  # other rules select it now
                numbers = sorted(it for it in self._index.find(exchange) if it > number)
        if not exchange.steps and exchange.name_wire != request.name_wire:
            # CoreDNS returns the changed question, and clients ignore the reply.
            exchange.steps.append(Renaming(exchange.name_wire, request.name_wire, False))
        return exchange, applied

    def _with_aliases(
        self, exchange: Exchange, asked: Request, answer: HandlerAnswer
    ) -> HandlerAnswer:
        if type(answer) is Reply:
            try:
                if not has_aliases(answer):
                    return _concluded(exchange, asked, answer)
            except FormError as error:
                return _failure(exchange.request, error)
        return _resolve(exchange, asked, answer)

    def explain_state(
        self, request: Request, reply: Reply | None = None
    ) -> Mapping[str, str | int]:
        """Return the places of the rules that apply to a query."""
        try:
            _, applied = self._rewrite(request, self._index.find(request))
        except UnusableError as error:
            return {"state": "failed", "reason": str(error)}
        if not applied:
            return {"state": "no rule", "rules": len(self.rules)}
        return {"state": "rewritten", "rules": ", ".join(placed.location for placed in applied)}


class RewriteOfClasses(Rewrite):
    """A handler with rules for classes, which the server would refuse before the chain."""

    any_class: ClassVar[bool] = True


def _failure(request: Request, error: Exception) -> Reply:
    return request.error(c.SERVFAIL, f"plugin/rewrite: {error}")


def _conclude(
    exchange: Exchange, asked: Request, request: Request, reply: Reply | None
) -> Reply | None:
    return None if reply is None else _concluded(exchange, asked, reply)


def _concluded(exchange: Exchange, asked: Request, reply: Reply) -> Reply:
    """Return the reply to the client's query."""
    try:
        return _changed(exchange, asked, reply)
    except (UnusableError, FormError) as error:
        return _failure(exchange.request, error)


def _changed(exchange: Exchange, asked: Request, reply: Reply) -> Reply:
    """Return the reply to the client's query; raises UnusableError and FormError."""
    answer = Answer(exchange, asked, reply)
    for step in reversed(exchange.steps):
        if not isinstance(step, AliasStep):
            step.apply(answer)
    if reply.series is not None:
        reply.series = rewritten(reply.series, partial(_changed, exchange, asked))
    return answer.close()


async def _resolve(exchange: Exchange, asked: Request, pending: Any) -> Reply:
    """Return the reply to the client's query, with the targets of aliases replaced."""
    reply: Reply = pending if type(pending) is Reply else await pending
    try:
        if reply.series is not None or not has_aliases(reply):
            return _changed(exchange, asked, reply)
        answer = Answer(exchange, asked, reply)
        for step in reversed(exchange.steps):
            if isinstance(step, AliasStep):
                await step.resolve(answer)
            else:
                step.apply(answer)
        return answer.close()
    except (UnusableError, FormError) as error:
        return _failure(exchange.request, error)
