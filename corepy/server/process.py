"""The life of the process: load, start, signals, reload, stop.

Exit codes: 0 after a graceful stop, 1 when the configuration is wrong or the host does not allow
it. As in CoreDNS, SIGINT and SIGTERM stop gracefully (a second one at once), SIGUSR1 reloads,
SIGQUIT quits at once, SIGHUP does nothing.

Where a manager keeps the listening sockets for the next process (`corepy.net.inherited`), SIGTERM
leaves it what lies in their queues; SIGINT means that there is no next one, so the queues are
emptied.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from corepy import corefile
from corepy.net.descriptors import raise_descriptor_limit
from corepy.net.inherited import ALIVE, Manager, take
from corepy.plugin import StartupError
from corepy.plugin.log import configure, server_logger
from corepy.plugin.orderfile import load_order
from corepy.plugin.output import WRITER, as_json, flush_at_the_end, streams_that_never_wait
from corepy.plugin.registry import find
from corepy.server.banner import banner, packet_cache_lines
from corepy.server.builder import build
from corepy.server.collector import set_modules_apart
from corepy.server.commands import obey
from corepy.server.contained import run as run_contained
from corepy.server.control import ControlSocket
from corepy.server.leader import Leader
from corepy.server.options import EXIT_FAILURE, EXIT_OK
from corepy.server.pidfile import pidfile
from corepy.server.selfcheck import unanswered
from corepy.server.server import Server

if TYPE_CHECKING:
    from corepy.plugin.registry import FoundPlugin
    from corepy.server.generation import Generation
    from corepy.server.options import Options

DEFAULT_FILE = "Corefile"
STDIN = "stdin"

_DEFAULT = ".:{port} {{\n    whoami\n    log\n}}\n"
"""What is served without a server block (core/dnsserver/register.go: DefaultInput)."""


class Loader:
    """Where the Corefile comes from, at the start and at each reload."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stdin: bytes | None = None
        self._found: dict[str, FoundPlugin] = {}
        self.name = options.conf or DEFAULT_FILE

    def load(self, *, checking: bool = False) -> Generation:
        """Read, parse and build; with `checking` the result is not meant to be started.

        Raises `CorefileError`, or `OSError` for a file that cannot be read.
        """
        parsed, first = self._with_default(self.parse()), not self._found
        order = self._options.plugin_order
        rules = [] if order is None else load_order(order)
        if not parsed.directives <= self._found.keys():
            self._found = find()  # slow: reads the metadata of all that is installed
        generation = build(
            parsed,
            self._options.port,
            self._found,
            checking=checking,
            on_imported=set_modules_apart if first and not checking else None,
            rules=rules,
        )
        if order is not None:
            generation.files.append(Path(os.path.abspath(order)))
        return generation

    def parse(self) -> corefile.Corefile:
        """Read and parse (coremain/run.go: confLoader, defaultLoader). Raises as `load`."""
        conf, port = self._options.conf, self._options.port
        if conf == STDIN:
            if sys.stdin is None:
                raise OSError(errno.EBADF, "standard input is closed", STDIN)
            if self._stdin is None:
                self._stdin = sys.stdin.buffer.read()
            return corefile.parse(self._stdin, STDIN)
        if conf is None and not Path(DEFAULT_FILE).exists():
            return corefile.parse(_DEFAULT.format(port=port), DEFAULT_FILE)
        return corefile.load(conf if conf is not None else DEFAULT_FILE)

    def _with_default(self, parsed: corefile.Corefile) -> corefile.Corefile:
        """Return CoreDNS's default for a Corefile without any server block, with a warning."""
        if not parsed.is_empty:
            return parsed
        port = self._options.port
        message = (
            f"{self.name} has no server block, so CoreDNS's default is served: whoami and log,"
            f" for all names at port {port}"
        )
        hint = "a server block is a zone, '{', directives on lines of their own, and '}'"
        default = corefile.parse(_DEFAULT.format(port=port), f"default of {self.name}")
        warning = corefile.Diagnostic(message, None, hint, "warning")
        return default._replace(files=parsed.files, warnings=[*parsed.warnings, warning])


def run(options: Options, announce: str) -> int:
    """Load the configuration and serve it until a signal says stop; return the exit code.

    `announce` is printed below the banner.
    """
    _deaf()
    raise_descriptor_limit()
    configure(json=options.log_format == "json")
    with streams_that_never_wait():
        return _run(options, announce)


def _run(options: Options, announce: str) -> int:
    loader = Loader(options)
    try:
        generation = loader.load()
    except corefile.CorefileError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(unreadable(error))
    log_warnings(generation)
    return run_contained(_serve(options, loader, generation, announce))


async def _serve(options: Options, loader: Loader, generation: Generation, announce: str) -> int:
    manager = Manager()

    async def reload_it(reason: str) -> bool:
        return await reload(server, loader, reason, manager)

    server = Server(reload_it, take(), manager, Leader(options.log_format, reload_it))
    stopping = _obey_signals(server, loader, manager)
    control = ControlSocket(lambda name, argument: obey(server, name, argument))
    control.open()  # before anybody can know that the server runs
    try:
        _refuse_silence(generation)
        await server.run(generation)
        await _until_stopped(options, server, generation, announce, manager, stopping)
    except StartupError as error:
        return _refuse(f"corepy: {error}")
    finally:
        await control.close()
    _deaf()
    return EXIT_OK


async def _until_stopped(
    options: Options,
    server: Server,
    generation: Generation,
    announce: str,
    manager: Manager,
    stopping: asyncio.Future[int],
) -> None:
    """Say that the server runs, and wait for the signal that ends it."""
    with pidfile(options.pidfile):
        if not options.quiet:
            for line in (banner(generation, server) + announce).splitlines():
                WRITER.write(line)
            log_packet_cache(generation, server)
        manager.tell("READY=1")
        signs = _say_alive(manager), _watchdog(server, manager)
        tasks = [asyncio.create_task(sign) for sign in signs]
        number = await stopping
        manager.tell("STOPPING=1")
        for task in tasks:
            task.cancel()
        await server.stop(hand_over=number == signal.SIGTERM)


def _deaf() -> None:
    """Ignore signals that would kill the process before its handlers are there, or after.

    A loop that closes gives its signals back to the system, whose answer is to kill.
    """
    numbers = [signal.SIGUSR1, signal.SIGHUP]
    loop = asyncio._get_running_loop()
    if loop is not None:
        numbers += [signal.SIGTERM, signal.SIGINT]
        for number in numbers:
            loop.remove_signal_handler(number)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


async def _say_alive(manager: Manager) -> None:
    """Tell the manager that the event loop turns, more often than it looks."""
    while manager.watchdog:
        manager.tell_if_it_listens(ALIVE)
        await asyncio.sleep(manager.watchdog / 10)


async def _watchdog(server: Server, manager: Manager) -> None:
    """Tell the manager that we answer, as often as it wants to hear it."""
    while manager.watchdog:
        patience = manager.watchdog / 4
        # A process that hangs is the leader's business: others get the next question.
        attempt = patience / 4 if server.shared else patience
        if not await unanswered(server.endpoints.values(), patience, attempt):
            manager.tell_if_it_listens("WATCHDOG=1")
        await asyncio.sleep(patience)


def _refuse(message: str) -> int:
    line = as_json(message, "error") if WRITER.json else message
    sys.stderr.write(f"{line}\n")
    return EXIT_FAILURE


def unreadable(error: OSError) -> str:
    """Return the line for a Corefile that cannot be read."""
    return f"corepy: cannot read the Corefile {error.filename}: {error.strerror}"


def _obey_signals(server: Server, loader: Loader, manager: Manager) -> asyncio.Future[int]:
    """Install the signal handlers; the result is the number of the one that says stop."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[int] = loop.create_future()
    tasks: set[asyncio.Task[bool]] = set()

    def stop(number: signal.Signals) -> None:
        name = number.name
        if stopping.done():
            server_logger().info("%s: quitting at once", name)
            flush_at_the_end()
            os._exit(EXIT_FAILURE)
        server_logger().info("%s: Shutting down servers then terminating", name)
        if server.generation is None:
            manager.dismiss()  # it goes on without us, and must not keep what nobody would read
        stopping.set_result(number)

    def restart() -> None:
        task = loop.create_task(reload(server, loader, "SIGUSR1", manager))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM)
    loop.add_signal_handler(signal.SIGINT, stop, signal.SIGINT)
    loop.add_signal_handler(signal.SIGUSR1, restart)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    loop.add_signal_handler(signal.SIGQUIT, os._exit, EXIT_OK)
    return stopping


async def reload(server: Server, loader: Loader, reason: str, manager: Manager) -> bool:
    """Load the Corefile anew and let it take over; on any failure say why and keep what runs.

    Returns whether it took over.
    """
    log = server_logger()
    log.info("%s: Reloading", reason)
    manager.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        generation = loader.load()
        _refuse_silence(generation)
        await server.run(generation)
    except corefile.CorefileError as error:
        log.error("%s: the new Corefile is not valid, the old one goes on:\n%s", reason, error)
    except OSError as error:
        log.error("%s: the old configuration goes on: %s", reason, unreadable(error))
    except StartupError as error:
        log.error("%s: reload failed, the old configuration goes on: %s", reason, error)
    else:
        log_warnings(generation)
        log_packet_cache(generation, server)
        gc.collect()  # the old generation
        log.info("Reloading complete")
        return True
    finally:
        manager.tell("READY=1")
    return False


def _refuse_silence(generation: Generation) -> None:
    """Raise `StartupError` for a configuration that would serve nothing."""
    if not generation.routers:
        message = "no server block has an address to listen on, so nothing would be served"
        raise StartupError(f"{message}; let bind name an address that this host has")


def log_warnings(generation: Generation) -> None:
    """Log what is allowed in a configuration but probably not meant."""
    for warning in generation.warnings:
        server_logger().warning("%s", warning)


def log_packet_cache(generation: Generation, server: Server) -> None:
    """Log where the packet cache is on."""
    for line in packet_cache_lines(generation, server):
        server_logger().info("%s", line)
