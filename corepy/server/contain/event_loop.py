"""Runs an event loop that SystemExit and KeyboardInterrupt do not stop.

In asyncio these two exceptions propagate out of any task or callback and stop the loop. This server
runs third-party plugins: a `sys.exit()` in a library must not stop the DNS of the node. Here the
exception is logged, and the loop continues.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from corepy.plugin.log import server_logger
from corepy.server.contain.attribution import of_coroutine
from corepy.server.contain.failure_report import report_background

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Result = TypeVar("Result")


PATIENCE: Final = 2.0
"""Seconds that remaining tasks get for their cancellation at the end."""


def run(
    main: Coroutine[Any, Any, Result],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> Result:
    """Run `main` in a new event loop and return its result, like `asyncio.run`.

    Tasks that do not end after their cancellation are abandoned.
    """
    loop = loop_factory()
    loop.set_exception_handler(_report)
    try:
        return _run(loop, loop.create_task(main))
    finally:
        try:
            _run(loop, loop.create_task(_end_tasks()))
            _run(loop, loop.create_task(loop.shutdown_asyncgens()))
        finally:
            loop.close()


def _run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Result]) -> Result:
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            report_background(error, "a task or callback tried to end the process")


async def _end_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=PATIENCE)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log the exception of a task or callback that no other code retrieves."""
    error = context.get("exception")
    message = str(context.get("message", "an error in the event loop"))
    if isinstance(error, BaseException):
        task = context.get("task") or context.get("future")
        coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
        report_background(error, message, of_coroutine(coroutine).plugin)
    else:
        server_logger().error("%s", message)
