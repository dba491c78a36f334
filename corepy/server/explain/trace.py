"""Traces one question on its way through a chain, for `corepy explain`.

Other queries do not run any of this code. For each explained question a second chain is built from
copies of the handlers (`Trace.copy_chain`), and `serve_dns` and `begin_dns` of each copy are
wrapped. The copies share the objects to which the originals refer: caches, upstreams, counters. A
handler may have the methods of `corepy.plugin.ExplainedHandler`.

A context variable records which handler called which. So steps in tasks of their own (verifying a
stale entry) and look-ups by the server itself are attributed to the right handler, too.
"""

from __future__ import annotations

import copy
import time
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from corepy.dns import Reply
from corepy.plugin import ChainLink, CommandError, EndOfChain, Handler
from corepy.plugin.handler import SERVFAIL
from corepy.server.contain.guard import has_fast_path
from corepy.server.explain.diff import QuestionState, ReplyState, answer_changes, question_changes
from corepy.server.listen.filtering_router import FilteringRouter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from corepy.dns import Request
    from corepy.server.listen.router import Router

    Serve = Callable[[Request], Awaitable[Reply]]

NOT_ASKED = "would query another server; its reply is replaced by SERVFAIL"
_current: ContextVar[Step | None] = ContextVar("explained step", default=None)


class Step:
    """The call of one handler with one question, and its outcome."""

    def __init__(self, name: str, handler: Handler | None, request: Request) -> None:
        """Begin a step; a look-up by the server itself has None as its `handler`."""
        self.name = name
        self.handler = handler
        self.parent = _current.get()
        self.children: list[Step] = []
        self.question = QuestionState.of(request)
        self.before = _state_of(handler, request)
        self.after: Mapping[str, str | int] = self.before
        self.labels: dict[str, str] = {}
        self.answer: ReplyState | None = None
        self.error = ""
        self.entered = self.began = self.ended = self.left = 0.0
        """Monotonic seconds. `began` to `ended` is the call of the handler; `entered` to `left`
        includes the time that tracing takes.
        """
        self.skipped = False
        if self.parent is not None:
            self.parent.children.append(self)

    @property
    def depth(self) -> int:
        """The number of look-ups by the server that lead to this step."""
        above = self.parent
        return 0 if above is None else above.depth + (above.handler is None)

    @property
    def seconds(self) -> float:
        """The time that the handler itself took, without the handlers that it called."""
        below = sum(
            max(0.0, min(child.left or self.ended, self.ended) - child.entered)
            for child in self.children
        )
        return max(0.0, self.ended - self.began - below)

    @property
    def below(self) -> list[Step]:
        """The steps of handlers that this one called in the chain, without look-ups."""
        return [it for it in self.children if it.handler is not None]

    @property
    def seen(self) -> list[Step]:
        """The steps below that had returned before this one did."""
        return [it for it in self.below if it.ended and it.ended <= self.ended]

    def as_dict(self) -> dict[str, Any]:
        """Return the step as plain data that JSON can represent."""
        below = self.below
        return {
            "plugin": self.name,
            "question": self.question.text,
            "depth": self.depth,
            "did": self._did(),
            "seconds": self.seconds,
            "before": dict(self.before),
            "after": dict(self.after),
            "down": question_changes(self.question, below[0].question) if below else [],
            "up": self._changes(),
            "error": self._new_error(),
            "labels": self.labels,
        }

    def _did(self) -> str:
        if self.error:
            return f"failed: {self.error}"
        if not self.ended:
            return "not finished"
        if self.skipped:
            return NOT_ASKED
        assert self.answer is not None
        if self.handler is None:
            return f"looked up {self.question.text}: {self.answer.summary()}"
        if not self.seen:
            return "dropped" if self.answer.is_dropped else f"answered {self.answer.summary()}"
        return "passed on, changed the reply" if self._changes() else "passed on"

    def _new_error(self) -> str | None:
        """Return the error of the reply, unless it comes from a handler below."""
        if self.answer is None or self.handler is None or self.skipped:
            return None
        if self.seen and self.seen[-1].answer and self.seen[-1].answer.error == self.answer.error:
            return None
        return self.answer.error

    def _changes(self) -> list[str]:
        seen = self.seen[-1].answer if self.handler is not None and self.seen else None
        if self.answer is None or seen is None:
            return []
        return answer_changes(seen, self.answer, self.ended)


class Trace:
    """The recorded steps of one question."""

    def __init__(self, *, offline: bool = False) -> None:
        """With `offline`, handlers that would send queries to another server are not called."""
        self.steps: list[Step] = []
        self._offline = offline
        self._copies: dict[int, Handler] = {}

    def router(self, router: Router) -> WatchedRouter:
        """Return a router of the same zones whose chains record their steps."""
        return WatchedRouter(router, self)

    def copy_chain(self, top: Handler | None) -> Handler | None:
        """Return the traced copy of a chain, given by its first handler."""
        if top is None:
            return None
        if id(top) not in self._copies:
            below = None if isinstance(top, EndOfChain) else self.copy_chain(top.next)
            traced = _copy_handler(top, below or top)
            parts = map(self.copy_chain, traced.embedded)
            traced.embedded = tuple(part for part in parts if part is not None)
            self._copies[id(top)] = self._watch(traced)
        return self._copies[id(top)]

    def _watch(self, traced: Handler) -> Handler:
        serve = _server_of(traced)
        if not isinstance(traced, ChainLink):

            async def serve_dns(request: Request) -> Reply:
                return await self._run(traced, serve, request)

            # Overrides the methods of this object only.
            vars(traced).update(serve_dns=serve_dns, begin_dns=serve_dns)
        return traced

    async def _run(self, handler: Handler, serve: Serve, request: Request) -> Reply:
        if self._offline and _queries_upstream(handler, request):
            serve = _do_not_ask
        entered = time.monotonic()
        step = Step(handler.name, handler, request)
        step.entered = entered
        step.skipped = serve is _do_not_ask
        return await self.follow(step, serve, request)

    async def follow(self, step: Step, serve: Serve, request: Request) -> Reply:
        """Call `serve` and record the outcome in `step`."""
        self.steps.append(step)
        known = dict(request.metadata)
        token = _current.set(step)
        step.began = time.monotonic()
        try:
            reply = await serve(request)
            step.ended = time.monotonic()
            if type(reply) is Reply:
                step.answer = ReplyState.of(reply)
                step.after = _state_of(step.handler, request, reply)
            else:  # `corepy.server.listen.chain_runner` rejects it
                step.error = f"returned {type(reply).__name__} instead of a Reply"
            return reply
        except BaseException as error:
            step.ended = time.monotonic()
            step.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            _current.reset(token)
            step.labels = _own_labels(step.name, known, request)
            step.left = time.monotonic()


class WatchedRouter(FilteringRouter):
    """A router of the same blocks whose chains and look-ups are traced."""

    __slots__ = ("_trace",)

    def __init__(self, router: Router, trace: Trace) -> None:
        zones = {
            wire: [replace(route, chain=trace.copy_chain(route.chain)) for route in blocks]
            for wire, blocks in router.zones.items()
        }
        super().__init__(zones, any_class=router.any_class, dropped=None)
        self._trace = trace

    async def lookup(self, request: Request) -> Reply:
        """Return the reply to a question of the server itself, and trace it."""
        step = Step("server", None, request)
        step.entered = time.monotonic()
        return await self._trace.follow(step, super().lookup, request)


def _copy_handler(handler: Handler, below: Handler) -> Handler:
    copying = getattr(handler, "copy_for_trace", None)
    try:
        if copying is not None:
            traced: Handler = copying(below)
        else:
            traced = copy.copy(handler)
            traced.next = below
        return traced
    except Exception as error:
        problem = f"plugin/{handler.name} cannot be traced: {type(error).__name__}: {error}"
        raise CommandError(problem) from error


def _server_of(handler: Handler) -> Serve:
    """Return the method that the handler overrides: `serve_dns`, or `begin_dns` as a coroutine."""
    if not has_fast_path(handler):
        return handler.serve_dns
    begin = handler.begin_dns

    async def serve(request: Request) -> Reply:
        answer = begin(request)
        return answer if type(answer) is Reply else await answer

    return serve


def _queries_upstream(handler: Handler, request: Request) -> bool:
    queries_upstream = getattr(handler, "queries_upstream", None)
    return queries_upstream is not None and bool(queries_upstream(request))


async def _do_not_ask(request: Request) -> Reply:
    return request.error(SERVFAIL, NOT_ASKED)


def _state_of(
    handler: Handler | None, request: Request, reply: Reply | None = None
) -> Mapping[str, str | int]:
    explain_state = getattr(handler, "explain_state", None)
    if explain_state is None:
        return {}
    try:
        return dict(explain_state(request, reply))
    except Exception as error:  # a plugin's exception here must not change the answer
        return {"state": f"unknown ({type(error).__name__}: {error})"}


def _own_labels(name: str, before: dict[str, Any], request: Request) -> dict[str, str]:
    """Return the metadata that a plugin has set under its own name, without empty values."""
    return {
        label: value
        for label, value in dict(request.metadata).items()
        if label.startswith(f"{name}/")
        and isinstance(value, str)
        and value
        and before.get(label) != value
    }
