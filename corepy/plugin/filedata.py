"""Parsed content of a file for plugins: loaded in a thread, replaced atomically on changes.

Parsing a list of 300,000 names takes almost a second, which would block the event loop. `FileData`
parses in a thread. Handlers read `value`, which is always complete. Modules that commands without
an event loop do not need are imported lazily.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import threading
import time
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
"""Default maximum size of a file in bytes."""

_SWITCH: Final = 0.0005  # seconds that a thread may compute before the event loop runs

_MOST_WAITS: Final = 10
"""Maximum number of waits for a file that changes all the time."""

_LONGEST: Final = 500
"""Maximum characters of a logged problem; an exception's text may contain the whole file."""


class FileData(Generic[T]):
    """The parsed content of one file; pass it to `controller.register`, and its hooks do the rest.

    At start, a file that cannot be parsed is a `StartupError`, and so is one that cannot be read,
    unless `required` is false. Later, such a file leaves the value unchanged and is logged once;
    content that could not be parsed is not parsed again until it changes. Changes during a load
    cause one further load. A change of the value clears the packet caches. A subclass may override
    `loaded` and `changed`.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        empty: T,
        *,
        interval: float = 30.0,
        settle: float = 0.0,
        required: bool = True,
        what: str = "file",
        most: int = LARGEST,
        log: logging.Logger | None = None,
    ) -> None:
        """Load `path` with `parse`, which runs in a thread and raises `ValueError` for bad content.

        `empty` is the initial value. The file is checked every `interval` seconds, or never again
        for 0. After a change it is loaded once it has been unchanged for `settle` seconds, so that
        a file written in place is not loaded half written. `what` describes the file in messages.
        """
        self.path = path
        self.interval = interval
        self.value = empty
        self._parse = parse
        self._settle = settle
        self._required = required
        self._name = f"{what} {path}"
        self._most = most
        self._log = log or server_logger()
        self._version: FileVersion | None = None
        self._digest = b""
        self._refused = b"", ""
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def digest(self) -> bytes:
        """A digest of the content that `value` was made from, b"" before the first load."""
        return self._digest

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
            again = (
                f"trying again every {self.interval:g}s" if self.interval else "going on without"
            )
            self._log.warning("%s; %s", problem, again)

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Load the file, to answer a single query."""
        await self.before_listen(context)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start checking for changes."""
        import asyncio

        if self.interval:
            self._task = asyncio.create_task(self._watch(context), name=f"watch {self.path}")

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop checking; the result of a load in progress is dropped."""
        if self._task is not None:
            self._task.cancel()

    def loaded(self) -> None:
        """Do what a subclass has to do after a new `value` was loaded; in the event loop."""

    def read(self) -> bool:
        """Load the file synchronously if it has changed; return whether it has.

        For tests and tools, because it blocks. Raises `OSError`, and any exception of `parse`.
        """
        return self._take(self._fetch())

    async def look(self) -> bool:
        """Load the file in a thread if it has changed; return whether there is a new value."""
        try:
            changed = self._take(await in_thread(self._fetch_settled))
        except Exception as error:
            problem = self._describe(error)
            if problem != self._problem:
                self._log.error("%s; the previous content stays in use", problem)
            self._problem = problem
            return False
        if self._problem and not changed:
            self._log.info("%s is usable again; its content has not changed", self._name)
        self._problem = ""
        return changed

    async def changed(self, context: LifecycleContext) -> None:
        """Clear the packet caches after a change; a subclass may clear more.

        `LifecycleContext.forget_names` also removes replies that plugins have stored.
        """
        context.forget()

    async def _watch(self, context: LifecycleContext) -> None:
        import asyncio

        while True:
            await asyncio.sleep(self.interval)
            if await self.look():
                await self._forget(context)

    async def _forget(self, context: LifecycleContext) -> None:
        try:
            await self.changed(context)
        except Exception as error:
            self._log.error("%s: old replies may stay cached: %s", self._name, describe(error))
            context.forget()

    def _fetch_settled(self) -> tuple[T, bytes, FileVersion | None] | FileVersion | None:
        """Fetch the file once it does not change any more. Runs in a thread, which may sleep."""
        before, version = self._version, file_version(self.path)
        for _ in range(_MOST_WAITS if self._settle else 0):
            if version == before:
                break
            time.sleep(self._settle)
            before, version = version, file_version(self.path)
        return self._fetch()

    def _fetch(self) -> tuple[T, bytes, FileVersion | None] | FileVersion | None:
        """Return the new value with its digest and version, or only the version if it is unchanged.

        Runs in a thread, and does not modify shared state.
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
            return self._parse(content), digest, version
        except ValueError as error:
            self._refused = digest, str(error)  # the same content has the same errors
            raise

    def _take(self, fetched: tuple[T, bytes, FileVersion | None] | FileVersion | None) -> bool:
        if fetched is None or isinstance(fetched, FileVersion):
            self._version = fetched
            return False
        self.value, self._digest, self._version = fetched
        self._log.info("loaded %s", self._name)
        self.loaded()
        return True

    def _describe(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return f"cannot read {self._name}: {error.strerror or error}"
        text = str(error) if isinstance(error, ValueError) else describe(error)
        return f"{self._name}: {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}"


async def in_thread(function: Callable[[], Any]) -> Any:
    """Return the result of `function`, called in a thread of its own.

    Unlike with `asyncio.to_thread`, the process does not wait for the thread at exit, and the
    interpreter switches threads often meanwhile, so that the event loop need not wait. Raises the
    exception of `function`, and OSError if the system has no further thread.
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
            with _short_turns():
                result = function()
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RuntimeError(describe(error))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    try:
        threading.Thread(target=run, name="corepy-load", daemon=True).start()
    except RuntimeError as error:  # the number of threads is limited
        raise OSError(errno.EAGAIN, str(error)) from None
    return await future


_loading = 0
_usual = 0.0
_lock = threading.Lock()


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Make the interpreter switch threads often, to keep the event loop responsive."""
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
