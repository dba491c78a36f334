"""Notifies a `CallObserver` of the calls of a handler below it.

An `ObservedCall` is in front of the guard of each handler below the observer. A block without an
observer has none. For a query that the observer has not selected, it costs one look-up in the
metadata and one call.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from corepy.dns import Reply
from corepy.plugin import CallObserver, ChainLink, Handler, Pending
from corepy.plugin.failures import report

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from corepy.dns import Request
    from corepy.plugin.handler import Answer


class ObservedCall(ChainLink):
    """Passes queries and replies on unchanged; an exception of the observer does not affect them.

    The label is read with `dict.get`: metadata that calls its providers for a missing label would
    do so for every query.
    """

    name: str  # type: ignore[misc]  # differs by instance

    def __init__(self, observer: CallObserver, below: Handler) -> None:
        self.name = below.name
        self.next = below
        self._observer = observer
        self._label = observer.call_label
        self._begin = below.begin_dns
        self._serve = below.serve_dns

    def begin_dns(self, request: Request) -> Answer:
        """Return the answer of the handler below."""
        if dict.get(request.metadata, self._label) is None:
            return self._begin(request)
        call = self._start(request)
        try:
            answer = self._begin(request)
        except BaseException:
            self._end(call, request, None)
            raise
        if type(answer) is Reply:
            self._end(call, request, answer)
            return answer
        if type(answer) is Pending:
            answer.steps.append(partial(self._arrived, call, request))
            return answer
        return self._late(call, request, answer)

    def serve_dns(self, request: Request) -> Coroutine[Any, Any, Reply]:
        """Return the coroutine of the handler below, without one of its own if possible."""
        if dict.get(request.metadata, self._label) is None:
            return self._serve(request)
        return self._late(self._start(request), request, self._serve(request))

    async def _late(
        self, call: object, request: Request, answer: Coroutine[Any, Any, Reply]
    ) -> Reply:
        try:
            reply = await answer
        except BaseException:
            self._end(call, request, None)
            raise
        self._end(call, request, reply)
        return reply

    def _arrived(self, call: object, request: Request, reply: Reply | None) -> Reply | None:
        self._end(call, request, reply)
        return reply

    def _start(self, request: Request) -> object:
        try:
            return self._observer.begin_call(self.name, request)
        except Exception as error:  # plugin code: the query continues unobserved
            report(self._observer.name, "exception", "failed to observe a call", error)
            return None

    def _end(self, call: object, request: Request, reply: Reply | None) -> None:
        if call is None:
            return
        try:
            self._observer.end_call(call, request, reply)
        except Exception as error:  # as above
            report(self._observer.name, "exception", "failed to observe the end of a call", error)

    def copy_for_trace(self, below: Handler) -> Handler:
        """Return a link of the same observer to a copied guard."""
        return ObservedCall(self._observer, below)
