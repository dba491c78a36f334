"""What a file says, for plugins: loaded in a thread, swapped whole, loaded again when it changes.

Parsing a list of 300,000 names takes the better part of a second, in which an event loop that does
it answers nothing. `FileData` does it beside the loop; a handler reads `value`, which is always
complete. What commands without an event loop need not import is imported where it is used.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from corepy.plugin.errors import StartupError, describe
from corepy.plugin.hooks import hookimpl
from corepy.plugin.log import server_logger
from corepy.plugin.reading import FileVersion, file_version, read_file

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from corepy.plugin.hooks import LifecycleContext

T = TypeVar("T")

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a file that is loaded, unless another limit is given."""

_SWITCH: Final = 0.0005  # seconds that a thread may compute before the event loop gets its turn

_LONGEST: Final = 500
"""Characters of a problem that are logged; the text of an exception may have all of the file in it.
"""


class FileData(Generic[T]):
    """The content of one file, parsed. Give it to `controller.register`; its hooks do the rest.

    A file that cannot be parsed at the start is a `StartupError`, as is one that cannot be read,
    unless it is not `required`. Later such a file leaves the value as it is, and is logged once;
    what could not be parsed is not parsed again before it changes. Changes that come while one is
    loaded are one further load. When the value has changed, the packet caches forget what they
    know.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        empty: T,
        *,
        interval: float = 30.0,
        required: bool = True,
        what: str = "file",
        most: int = LARGEST,
        log: logging.Logger | None = None,
    ) -> None:
        """Load `path` with `parse`, which runs in a thread and raises `ValueError` for a mistake.

        `empty` is the value before; the file is looked at every `interval` seconds, 0 for never
        again; `what` names it in messages.
        """
        self.path = path
        self.interval = interval
        self.value = empty
        self._parse = parse
        self._required = required or not interval
        self._name = f"{what} {path}"
        self._most = most
        self._log = log or server_logger()
        self._version: FileVersion | None = None
        self._digest = b""
        self._refused = b"", ""
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Load the file; raises `StartupError`."""
        try:
            self._take(await in_thread(self._fetch))
        except Exception as error:
            problem = self._describe(error)
            if self._required or not isinstance(error, OSError):
                raise StartupError(problem) from None
            self._problem = problem
            self._log.warning("%s; trying again every %gs", problem, self.interval)

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Load the file, for one question."""
        await self.before_listen(context)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Look for changes from now on."""
        import asyncio

        if self.interval:
            self._task = asyncio.create_task(self._watch(context), name=f"watch {self.path}")

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Look no more; what a thread still loads is dropped."""
        if self._task is not None:
            self._task.cancel()

    def read(self) -> bool:
        """Load the file here and now, if it has changed; return whether it has.

        For tests and tools: it blocks. Raises `OSError`, and what `parse` raises.
        """
        return self._take(self._fetch())

    async def look(self) -> bool:
        """Load the file in a thread if it has changed; return whether there is a new value."""
        try:
            changed = self._take(await in_thread(self._fetch))
        except Exception as error:
            problem = self._describe(error)
            if problem != self._problem:
                self._log.error("%s; what was loaded before stays", problem)
            self._problem = problem
            return False
        if self._problem and not changed:
            self._log.info("%s is usable again; its content is what was loaded before", self._name)
        self._problem = ""
        return changed

    async def _watch(self, context: LifecycleContext) -> None:
        import asyncio

        while True:
            await asyncio.sleep(self.interval)
            if await self.look():
                context.forget()

    def _fetch(self) -> tuple[T, bytes, FileVersion | None] | FileVersion | None:
        """Return the new value with its digest and version; only a version if the content is the
        same. Runs in a thread, and changes nothing that others see.
        """
        import hashlib

        version = file_version(self.path)
        if version is not None and version == self._version:
            return version
        content, version = read_file(self.path, self._most)
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            return version
        if digest == self._refused[0]:
            raise ValueError(self._refused[1])
        try:
            with _short_turns():
                return self._parse(content), digest, version
        except ValueError as error:
            self._refused = digest, str(error)  # the same content has the same mistakes
            raise

    def _take(self, fetched: tuple[T, bytes, FileVersion | None] | FileVersion | None) -> bool:
        if fetched is None or isinstance(fetched, FileVersion):
            self._version = fetched
            return False
        self.value, self._digest, self._version = fetched
        self._log.info("loaded %s", self._name)
        return True

    def _describe(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return f"cannot read {self._name}: {error.strerror or error}"
        text = str(error) if isinstance(error, ValueError) else describe(error)
        return f"{self._name}: {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}"


async def in_thread(function: Callable[[], Any]) -> Any:
    """Return what `function` returns, having run it in a thread of its own.

    Unlike `asyncio.to_thread`, a process that ends does not wait for it.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return  # cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RuntimeError(describe(error))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="corepy-load", daemon=True).start()
    return await future


_loading = 0
_usual = 0.0
_lock = threading.Lock()


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Let the interpreter switch threads often, so that the event loop waits for no long turn."""
    global _loading, _usual
    with _lock:
        if not _loading:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(_SWITCH, _usual))
        _loading += 1
    try:
        yield
    finally:
        with _lock:
            _loading -= 1
            if not _loading:
                sys.setswitchinterval(_usual)
