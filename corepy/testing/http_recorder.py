"""An HTTP server for tests that records the requests it gets, such as a collector."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from corepy.testing.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By name in lower case."""

    body: bytes


@dataclass(slots=True)
class HTTPRecorder:
    """Accepts HTTP requests with a Content-Length at a free port of 127.0.0.1, in a `with` block.

    `requests` has them in the order of arrival. The response is the bytes `response`; with b"" the
    connection is closed without one, with None it stays open and the client waits. `response` may
    also be a function that returns one of these for a request, called in another thread.
    """

    response: bytes | Callable[[RecordedRequest], bytes | None] | None = (
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    )
    tls: bool = False
    requests: queue.SimpleQueue[RecordedRequest] = field(default_factory=queue.SimpleQueue)
    connections: int = 0
    """Number of accepted connections."""

    port: int = 0
    _listener: socket.socket | None = None
    _streams: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def next(self) -> RecordedRequest:
        """Return the next request; raises `queue.Empty` after a minute without one."""
        return self.requests.get(timeout=60)

    def __enter__(self) -> Self:
        """Start to accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)
        return self

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]  # a callable
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                stream, _ = listener.accept()
                self.connections += 1
                self._streams.append(stream)
                self._start(self._serve, stream)

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            stream = plain
            if self.tls:
                stream = server_context().wrap_socket(plain, server_side=True)
                self._streams.append(stream)
            with stream, stream.makefile("rb") as file:
                while (line := file.readline()).strip():
                    method, target, _ = line.decode("latin-1").split(" ")
                    headers = {}
                    while line := file.readline().strip():
                        name, _, value = line.decode("latin-1").partition(":")
                        headers[name.lower()] = value.strip()
                    body = file.read(int(headers.get("content-length", 0)))
                    request = RecordedRequest(method, target, headers, body)
                    self.requests.put(request)
                    response = self.response(request) if callable(self.response) else self.response
                    if response:
                        stream.sendall(response)
                    elif response is not None:
                        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the listener and all connections."""
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
