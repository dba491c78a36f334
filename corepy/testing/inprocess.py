"""Runs a server in the process of the test, in a thread with its own event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from corepy import corefile
from corepy.loading.orderfile import parse_order
from corepy.server.build.builder import build
from corepy.server.commands import accept_commands
from corepy.server.contain.event_loop import run
from corepy.server.control_socket import ControlSocket
from corepy.server.server import Server
from corepy.testing.client import Address, ask, exchange, query
from corepy.testing.dropping import is_dropped
from corepy.testing.installed import installed

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterator

    import dnslib

    from corepy.server.build.generation import Generation

STOP_TIMEOUT = 60.0
Plugin = TypeVar("Plugin")


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be stopped: no timer expires then, however slow the machine."""

    _stopped_at: float | None = None

    def time(self) -> float:
        """Return the time of the clock."""
        return super().time() if self._stopped_at is None else self._stopped_at

    def stop_clock(self) -> None:
        """Stop the clock."""
        self._stopped_at = self.time()

    def resume_clock(self) -> None:
        """Let the clock show the real time again."""
        self._stopped_at = None


class TestServer:
    """A running server; made by `serve`."""

    __test__ = False  # pytest would collect it as a test class because of its name

    def __init__(
        self,
        text: str,
        filename: str,
        plugins: Any = None,
        order: str = "",
        *,
        control: bool = False,
        still: bool = False,
    ) -> None:
        self._control = control
        self._still = still
        self._filename = filename
        self._rules = parse_order(order, "order.txt")
        self._plugins = installed() if plugins is None else plugins
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop = _Loop()
        self._stop: asyncio.Event
        self.server: Server
        self._thread = threading.Thread(
            target=lambda: run(self._main(text), lambda: self._loop), daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join(STOP_TIMEOUT)
            raise self._failure

    async def _main(self, text: str) -> None:
        try:
            self._stop = asyncio.Event()
            self.server = Server()
            accept_commands(self.server)
            socket = ControlSocket(self.server.run_command)
            if self._control:
                socket.open()
            await self.server.run(self._build(text))
            if self._still:
                self._loop.stop_clock()
        except BaseException as failure:
            self._failure = failure
            return
        finally:
            self._started.set()
        await self._stop.wait()
        self._loop.resume_clock()
        await self.server.stop()
        await socket.close()

    def _build(self, text: str) -> Generation:
        parsed = corefile.parse(text, self._filename)
        return build(parsed, 0, self._plugins, rules=self._rules)

    @property
    def addresses(self) -> list[Address]:
        """The addresses that the server listens on, as clients on this machine reach them."""
        endpoints = self.server.endpoints.values()
        return [(endpoint.listen.host or "127.0.0.1", endpoint.port) for endpoint in endpoints]

    @property
    def address(self) -> Address:
        """The first of `addresses`."""
        return self.addresses[0]

    @property
    def packet_entries(self) -> int:
        """The number of replies in the packet caches of all sockets."""
        listeners = [it for endpoint in self.server.endpoints.values() for it in endpoint.listeners]
        return sum(len(listener.pipeline.packets.entries) for listener in listeners)

    def plugins(self, kind: type[Plugin]) -> list[Plugin]:
        """Return the running handlers and hooks that are instances of `kind`."""
        assert self.server.generation is not None
        registered = self.server.generation.plugins.get_plugins()
        return [plugin for plugin in registered if isinstance(plugin, kind)]

    def ask(self, name: str, qtype: str = "A", **options: Any) -> dnslib.DNSRecord:
        """Send a query to the first address; see `corepy.testing.ask`."""
        return ask(self.address, name, qtype, **options)

    def exchange(self, wire: bytes, **options: Any) -> bytes:
        """Send a message to the first address; see `corepy.testing.exchange`."""
        return exchange(self.address, wire, **options)

    def drops(self, name: str, qtype: str = "A", *, tcp: bool = False, **question: Any) -> bool:
        """Send a query to the first address and return whether the server drops it.

        True if the query was processed without a reply (`Request.drop`), False if there is one. It
        does not wait for a timeout. See `corepy.testing.query` for `question`.
        """
        wire = query(name, qtype, **question)
        return is_dropped(self.address, wire, lambda: self.call(self._has_pending), tcp=tcp)

    def _has_pending(self) -> bool:
        return any(endpoint.waiting() for endpoint in self.server.endpoints.values())

    def reload(self, text: str) -> None:
        """Switch to another Corefile; exceptions of the reload propagate."""
        generation = self._build(text)
        asyncio.run_coroutine_threadsafe(self.server.run(generation), self._loop).result(
            STOP_TIMEOUT
        )

    def reload_under(self, poll: Callable[[], object], text: str, times: int = 20) -> None:
        """Reload `times` times while a thread calls `poll` in a loop; its exceptions propagate."""
        done = threading.Event()

        def poll_on() -> None:
            while not done.is_set():
                poll()

        with ThreadPoolExecutor(1) as pool:
            polling = pool.submit(poll_on)
            try:
                for _ in range(times):
                    self.reload(text)
            finally:
                done.set()
            polling.result()

    def call(self, function: Any, *args: Any) -> Any:
        """Run `function` in the server's event loop and return its result."""

        async def run() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(STOP_TIMEOUT)

    def close(self) -> None:
        """Stop the server gracefully; raises TimeoutError if it does not stop."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_TIMEOUT)
        if self._thread.is_alive():
            raise TimeoutError("the server did not stop")


@asynccontextmanager
async def serve_file(path: str | os.PathLike[str]) -> AsyncIterator[Server]:
    """Run a server from the Corefile `path` in this event loop.

    If a plugin requests a reload, the file is loaded again, as in the command.
    """

    async def reload(_: str) -> bool:
        try:
            await server.run(build(corefile.load(path)))
        except corefile.CorefileError:
            return False
        return True

    server = Server(reload)
    await server.run(build(corefile.load(path)))
    try:
        yield server
    finally:
        await server.stop()


@contextmanager
def serve(
    text: str,
    filename: str = "Corefile",
    plugins: Any = None,
    order: str = "",
    *,
    control: bool = False,
    still: bool = False,
) -> Iterator[TestServer]:
    """Run a server from Corefile text until the `with` block ends.

    Zones without a port get a free one. `plugins` replaces the installed plugins (the result of
    `registry.find`); `order` is the text of a file for `-plugin-order`. With `control`, the server
    has a control socket, as in the command. With `still`, the clock of the event loop stands still
    from the start of the server to the end of the block: no timer expires, so that a busy machine
    makes nothing late. Raises `CorefileError` or `StartupError` if the server does.
    """
    server = TestServer(text, filename, plugins, order, control=control, still=still)
    try:
        yield server
    finally:
        server.close()
