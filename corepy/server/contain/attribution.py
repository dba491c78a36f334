"""Finds the plugin that running code belongs to, for logs and metrics of failures.

The search goes through a stack from the innermost frame outwards: it ends at a method of a handler,
at a filter, or at a function of a module in a plugin's package. If there is none of these, as in a
plugin's import, the plugin is the one for which the server was working at the time (`doing`).
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from corepy.loading.registry import plugin_of_module
from corepy.plugin import BlockFilter, ChainLink, Handler, Pending

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType, TracebackType

_KINDS = ("cr", "gi", "ag")
_AWAITED = ("cr_await", "ag_await", "gi_yieldfrom")
"""Prefixes and attributes of coroutines, generators, and asynchronous generators."""

_current: dict[int, str] = {}
"""By thread ID, the directive whose import, setup or hook is running."""


class Attribution(NamedTuple):
    """The plugin and the place that a stack was attributed to."""

    plugin: str
    """The directive; "" if the code belongs to no plugin."""

    where: str
    """The innermost frame of the plugin, as `file:line in function`.

    Without a plugin, the innermost frame of all.
    """

    handler: Handler | None = None


def attribute(stack: Iterable[FrameType]) -> Attribution:
    """Return the innermost plugin code in `stack`, whose innermost frame comes first."""
    frames = list(stack)
    for frame in frames:
        owner = _owner(frame)
        if isinstance(owner, Handler):
            return Attribution(owner.name, _code_position(frame), owner)
        plugin = owner.name if owner else plugin_of_module(frame.f_globals.get("__name__", ""))
        if plugin:
            return Attribution(plugin, _code_position(frame))
    return Attribution("", _code_position(frames[0]) if frames else "")


def of_error(error: BaseException) -> Attribution:
    """Return the plugin code that raised `error`."""
    return attribute(reversed(list(_frames_of_traceback(error.__traceback__))))


def of_thread(ident: int) -> Attribution:
    """Return the plugin code that the thread `ident` is running."""
    import sys

    found = attribute(_frames_of_stack(sys._current_frames().get(ident)))
    return found if found.plugin else found._replace(plugin=_current.get(ident, ""))


def of_coroutine(coroutine: Any) -> Attribution:
    """Return the plugin code in which a coroutine waits, or the plugin that owes a `Pending`.

    It may also be an asynchronous generator.
    """
    if isinstance(coroutine, Pending):
        handler = cast("Handler | None", coroutine.handler)
        return Attribution("" if handler is None else handler.name, "", handler)
    return attribute(reversed(list(_frames_of_coroutine(coroutine))))


@contextmanager
def doing(directive: str) -> Iterator[None]:
    """Attribute the code that runs in this thread within the context to a plugin."""
    ident = threading.get_ident()
    before = _current.get(ident)
    _current[ident] = directive
    try:
        yield
    finally:
        if before is None:
            _current.pop(ident, None)
        else:
            _current[ident] = before


def _owner(frame: FrameType) -> Handler | BlockFilter | None:
    """Return the handler or filter whose method this frame runs, or whose reply it awaits."""
    code = frame.f_code
    if not code.co_argcount or code.co_varnames[0] != "self":
        return None
    owner = frame.f_locals.get("self")
    if isinstance(owner, Pending):
        owner = owner.handler
    while isinstance(owner, ChainLink):
        owner = owner.next
    return owner if isinstance(owner, Handler | BlockFilter) else None


def _code_position(frame: FrameType) -> str:
    code = frame.f_code
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_lineno} in {code.co_name}"


def _frames_of_traceback(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _frames_of_stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _frames_of_coroutine(coroutine: Any) -> Iterator[FrameType]:
    while coroutine is not None:
        frames = (getattr(coroutine, f"{kind}_frame", None) for kind in _KINDS)
        yield from [frame for frame in frames if frame is not None]
        awaited = (getattr(coroutine, name, None) for name in _AWAITED)
        coroutine = next((it for it in awaited if it is not None), None)
