"""Forgetting names on command, while the server runs: the socket that `corepy cache` talks to.

One socket for each process (for each event loop, to be exact) serves all of its caches, from the
first that starts to the last that stops, so a reload keeps it. It is local, of mode 0600, and takes
one line, "name NAME" or "zone ZONE", and answers with one, "ok COUNT" or "error REASON".
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text, is_subdomain
from corepy.net.accept import Acceptor
from corepy.plugin import plugin_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy_cache.keeper import Keeper
    from corepy_cache.store import Store

PATTERN: Final = "cache-*.sock"
LONGEST_LINE: Final = 2048
_PATIENCE: Final = 5.0  # seconds that a client has for its line
_STARTING: Final = 10.0  # seconds from a socket's making within which its owner listens
_SLICE: Final = 1000  # entries looked at before queries get their turn
_ONLY_OWNER: Final = 0o177
_log = plugin_logger("cache")
_open: dict[asyncio.AbstractEventLoop, PurgeSocket] = {}


def folders() -> list[Path]:
    """Return where a socket may lie, in the order in which they are tried."""
    # systemd gives a list where a unit has several.
    named = [os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], "/run/corepy"]
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        named.append(f"{user}/corepy")
    return [Path(name) for name in named if name]


def sockets() -> list[Path]:
    """Return the sockets of running servers; those of servers that died are removed."""
    return [path for folder in folders() for path in sorted(folder.glob(PATTERN)) if _lives(path)]


def _lives(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except BlockingIOError:
            return True  # many others ask at this moment
        except ConnectionRefusedError:
            _remove_if_old(path)
            return False
        except OSError:
            return False  # another user's
    return True


def _remove_if_old(path: Path) -> None:
    """Remove a socket that nobody listens to any more; not one whose owner does not listen yet."""
    try:
        if time.time() - path.stat().st_mtime > _STARTING:
            path.unlink()
    except OSError:
        pass  # somebody else was faster, or may


async def purge(stores: Sequence[Store], doomed: Callable[[bytes], bool]) -> int:
    """Remove the entries whose name (wire form) is `doomed`; return how many there were."""
    removed = 0
    for store in stores:
        keys = list(store.entries)
        for start in range(0, len(keys), _SLICE):
            for key in keys[start : start + _SLICE]:
                if doomed(name_of(key)):
                    removed += store.remove(key)
            await asyncio.sleep(0)
    return removed


def name_of(key: bytes) -> bytes:
    """Return the name that a store's key begins with."""
    at = 0
    while n := key[at]:
        at += n + 1
    return key[: at + 1]


class PurgeSocket:
    """The socket of one event loop and the caches behind it."""

    def __init__(self) -> None:
        self.keepers: list[Keeper] = []
        self.forget: Callable[[], None] = lambda: None
        """Empties the packet caches, which repeat what is kept here."""
        self.path: Path | None = None
        self.talks: set[Talk] = set()
        self._acceptor: Acceptor | None = None

    async def open(self) -> None:
        """Listen in the first folder that allows it."""
        sockets()  # of their own accord the killed ones' would stay
        refusals = []
        for folder in folders():
            try:
                sock, self.path = _bind(folder)
            except OSError as error:
                refusals.append(f"{folder}: {error.strerror or error}")
                continue
            self._acceptor = Acceptor(sock, lambda: Talk(self), str(self.path), _log)
            self._acceptor.start()
            return
        _log.warning("corepy cache purge will not find this server: %s", "; ".join(refusals))

    async def close(self) -> None:
        """Stop listening, remove the socket, and let what was asked be answered."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        if self._acceptor is None:
            return
        self._acceptor.stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        while (self._acceptor.is_opening or self.talks) and loop.time() < deadline:
            for talk in self.talks:
                talk.close_if_idle()
            await asyncio.sleep(0.001)

    async def obey(self, line: bytes) -> bytes:
        """Carry out one line and return the one to answer with."""
        what, _, text = line.decode("utf-8", "replace").partition(" ")
        try:
            name = from_text(text).lower()
        except InvalidName as error:
            return f"error {error}\n".encode()
        if what not in ("name", "zone"):
            return b"error unknown command\n"
        stores = [store for each in self.keepers for store in (each.success, each.denial)]
        if what == "name":
            count = await purge(stores, lambda known: known == name)
        else:
            count = await purge(stores, lambda known: is_subdomain(known, name))
        self.forget()
        _log.info("purged %d entries of %s %s", count, what, text)
        return f"ok {count}\n".encode()


class Talk(asyncio.Protocol):
    """One connection to the socket: a line, and its answer."""

    def __init__(self, owner: PurgeSocket) -> None:
        self._owner = owner
        self._line = b""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a line, not for long."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.talks.add(self)
        self._timer = self._loop.call_later(_PATIENCE, self.close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what it asked for is done all the same."""
        if self._timer is not None:
            self._timer.cancel()
        self._owner.talks.discard(self)

    def data_received(self, data: bytes) -> None:
        """Carry out the first line that is whole; one without an end is not waited for."""
        if self._task is not None:
            return
        self._line += data
        line, end, _ = self._line.partition(b"\n")
        if end:
            self._task = self._loop.create_task(self._owner.obey(line))
            self._task.add_done_callback(self._answer)
        elif len(line) > LONGEST_LINE:
            self._transport.close()

    def eof_received(self) -> bool:
        """Answer one who has closed his side after asking."""
        return self._task is not None

    def _answer(self, task: asyncio.Task[bytes]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._transport.abort()
        else:
            self._transport.write(task.result())
            self._transport.close()

    def close_if_idle(self) -> None:
        """Close unless something is being carried out, which closes when it is done."""
        if self._task is None:
            self._transport.close()


def _bind(folder: Path) -> tuple[socket.socket, Path]:
    folder.mkdir(mode=0o755, exist_ok=True)
    # Containers that share the folder may share the process ID as well.
    path = folder / PATTERN.replace("*", f"{os.getpid()}-{secrets.token_hex(4)}")
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    before = os.umask(_ONLY_OWNER)
    try:
        sock.bind(str(path))
        sock.listen()
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock, path


async def join(keeper: Keeper, forget: Callable[[], None]) -> None:
    """Let this cache be purged; the first of a process opens the socket.

    `forget` empties the packet caches.
    """
    loop = asyncio.get_running_loop()
    if loop not in _open:
        _open[loop] = PurgeSocket()
        await _open[loop].open()
    _open[loop].keepers.append(keeper)
    _open[loop].forget = forget


async def leave(keeper: Keeper) -> None:
    """Undo `join`, if it was called; the last closes the socket."""
    loop = asyncio.get_running_loop()
    purge_socket = _open.get(loop)
    if purge_socket is None or keeper not in purge_socket.keepers:
        return
    purge_socket.keepers.remove(keeper)
    if not purge_socket.keepers:
        del _open[loop]
        await purge_socket.close()
