"""The life cycle of the process: load, start, signals, reload, stop.

Exit codes: 0 after a graceful stop, 1 if the configuration is invalid or the host does not allow
it. As in CoreDNS, SIGINT and SIGTERM stop gracefully (a second one stops at once), SIGUSR1 reloads,
SIGQUIT exits at once, SIGHUP does nothing.

A manager (systemd, or `corepy -supervise`) may keep the listening sockets for the next process
(`corepy.net.inherited`). Then SIGTERM leaves queries in the sockets' queues for that process.
SIGINT means that there will be no next process, so the queues are emptied first. SIGURG means that
a new manager has replaced the old one and needs the complete state again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from corepy import corefile
from corepy.net.descriptors import raise_descriptor_limit
from corepy.net.inherited import ALIVE, Manager, take, take_state
from corepy.plugin import StartupError
from corepy.plugin.log import configure, server_logger
from corepy.plugin.output import WRITER, as_json, flush_at_the_end, streams_that_never_wait
from corepy.plugin.shared_task import shared_result
from corepy.server.banner import banner, packet_cache_lines
from corepy.server.build.loader import Loader, unreadable
from corepy.server.commands import accept_commands
from corepy.server.contain.event_loop import run as run_contained
from corepy.server.contain.failure_report import report_background
from corepy.server.control_socket import ControlSocket
from corepy.server.options import EXIT_FAILURE, EXIT_OK
from corepy.server.pidfile import pidfile, remove_own
from corepy.server.selfcheck import unanswered
from corepy.server.server import Server
from corepy.server.workers.leader import Leader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.server.build.generation import Generation
    from corepy.server.options import Options


COMPANION_TIMEOUT = 5.0
"""Seconds until the server stops without waiting for its companion any longer."""


def run(options: Options, announce: str) -> int:
    """Load the configuration and serve it until a signal stops the process.

    Returns the exit code. `announce` is printed below the banner.
    """
    _ignore_signals()
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

    state = take_state()  # before `take`
    leader = Leader(options.log_format, reload_it)
    server = Server(reload_it, take(), manager, leader, state)
    server.configuration_name = loader.name
    accept_commands(server)
    stopping = _install_signal_handlers(server, loader, manager, options)
    control = ControlSocket(server.run_command)
    control.open()  # open before the banner and READY=1 announce the server
    try:
        _require_listeners(generation)
        await server.run(generation)
        wait = partial(_wait_for_signal, options, reload_it, stopping)
        await _until_stopped(options, server, generation, announce, manager, wait)
    except StartupError as error:
        return _refuse(f"corepy: {error}")
    finally:
        await control.close()
    _ignore_signals()
    return EXIT_OK


async def _wait_for_signal(
    options: Options, reload_it: Callable[[str], Awaitable[bool]], stopping: asyncio.Future[int]
) -> int:
    """Wait for the signal that stops the server, with its companion running; return its number."""
    companion = options.companion
    if companion is None:
        return await stopping
    reloads: set[asyncio.Future[bool]] = set()

    async def reload_whole(reason: str) -> bool:
        """Reload; the end of the companion does not interrupt it."""
        reloading = asyncio.ensure_future(reload_it(reason))
        reloads.add(reloading)
        reloading.add_done_callback(reloads.discard)
        return await shared_result(reloading)

    quitting = partial(quit_at_once, options.pidfile)
    asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, quitting)
    task = asyncio.create_task(companion(reload_whole))
    task.add_done_callback(_report_end)
    try:
        return await stopping
    finally:  # no reload may begin after the stop
        task.cancel()
        _, late = await asyncio.wait([task], timeout=COMPANION_TIMEOUT)
        if late:
            message = "the command of this server does not end its work beside it; stopping anyway"
            server_logger().error(message)


def _report_end(companion: asyncio.Task[None]) -> None:
    """Log that the companion has failed; the server continues."""
    error = None if companion.cancelled() else companion.exception()
    if error is not None:
        report_background(error, "the command of this server has stopped its work beside it")


async def _until_stopped(
    options: Options,
    server: Server,
    generation: Generation,
    announce: str,
    manager: Manager,
    wait_for_signal: Callable[[], Awaitable[int]],
) -> None:
    """Announce that the server runs, and wait for the signal that stops it."""
    with pidfile(options.pidfile):
        if not options.quiet:
            for line in (banner(generation, server) + announce).splitlines():
                WRITER.write(line)
            log_packet_cache(generation, server)
        manager.tell("READY=1")
        signs = _notify_alive(manager), _watchdog(server, manager)
        tasks = [asyncio.create_task(sign) for sign in signs]
        number = await wait_for_signal()
        manager.tell("STOPPING=1")
        for task in tasks:
            task.cancel()
        # Without a manager, no next process serves the queues.
        await server.stop(hand_over=number == signal.SIGTERM and manager.is_there)


def _ignore_signals() -> None:
    """Ignore signals that would kill the process before or after its handlers are installed.

    Closing the loop restores the default signal handlers, which would kill the process.
    """
    numbers = [signal.SIGUSR1, signal.SIGHUP]
    loop = asyncio._get_running_loop()
    if loop is not None:
        numbers += [signal.SIGTERM, signal.SIGINT]
        for number in numbers:
            loop.remove_signal_handler(number)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


async def _notify_alive(manager: Manager) -> None:
    """Notify the manager that the event loop runs, ten times per watchdog interval."""
    while manager.watchdog:
        manager.tell_without_waiting(ALIVE)
        await asyncio.sleep(manager.watchdog / 10)


async def _watchdog(server: Server, manager: Manager) -> None:
    """Send the watchdog notification to the manager as long as the server answers."""
    while manager.watchdog:
        patience = manager.watchdog / 4
        # The leader replaces a follower that hangs; with several processes the next query reaches
        # another one.
        attempt = patience / 4 if server.shared else patience
        if not await unanswered(server.endpoints.values(), patience, attempt):
            manager.tell_without_waiting("WATCHDOG=1")
        await asyncio.sleep(patience)


def _refuse(message: str) -> int:
    line = as_json(message, "error") if WRITER.json else message
    sys.stderr.write(f"{line}\n")
    return EXIT_FAILURE


def quit_at_once(pidfile: str | None, code: int = EXIT_OK) -> NoReturn:
    """End the process without waiting for queries, as CoreDNS does at SIGQUIT."""
    remove_own(pidfile)
    flush_at_the_end()
    os._exit(code)


def _install_signal_handlers(
    server: Server, loader: Loader, manager: Manager, options: Options
) -> asyncio.Future[int]:
    """Install the signal handlers; the result is the number of the signal that stops."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[int] = loop.create_future()
    tasks: set[asyncio.Task[bool]] = set()

    def stop(number: signal.Signals) -> None:
        name = number.name
        if stopping.done():
            server_logger().info("%s: quitting at once", name)
            quit_at_once(options.pidfile, EXIT_FAILURE)
        server_logger().info("%s: Shutting down servers then terminating", name)
        if server.generation is None:
            manager.dismiss()  # the manager must not keep sockets for a server that never started
        stopping.set_result(number)

    def restart() -> None:
        task = loop.create_task(reload(server, loader, "SIGUSR1", manager))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM)
    loop.add_signal_handler(signal.SIGINT, stop, signal.SIGINT)
    loop.add_signal_handler(signal.SIGUSR1, restart)
    loop.add_signal_handler(signal.SIGURG, server.resend_state)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    if options.companion is None:
        loop.add_signal_handler(signal.SIGQUIT, quit_at_once, options.pidfile)
    else:  # until it runs, and may do something at SIGQUIT, the stop is graceful
        loop.add_signal_handler(signal.SIGQUIT, stop, signal.SIGQUIT)
    return stopping


async def reload(server: Server, loader: Loader, reason: str, manager: Manager) -> bool:
    """Load the Corefile again and switch to it; on failure log why and keep the old one.

    Returns whether the new configuration runs.
    """
    log = server_logger()
    log.info("%s: Reloading", reason)
    manager.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    failure: str | None = "it ended early"  # unless another one is known
    try:
        generation = loader.load()
        _require_listeners(generation)
        await server.run(generation)
    except corefile.CorefileError as error:
        failure = str(error)
        log.error("%s: the new Corefile is not valid, the old one stays in use:\n%s", reason, error)
    except OSError as error:
        failure = unreadable(error)
        log.error("%s: the old configuration stays in use: %s", reason, failure)
    except StartupError as error:
        failure = str(error)
        kept = "" if server.generation is None else ", the old configuration stays in use"
        log.error("%s: reload failed%s: %s", reason, kept, error)
    else:
        failure = None
        log_warnings(generation)
        log_packet_cache(generation, server)
        gc.collect()  # collects the old generation
        log.info("Reloading complete")
        return True
    finally:
        server.reloads.record(reason, failure)
        manager.tell("READY=1")
    return False


def _require_listeners(generation: Generation) -> None:
    """Raise `StartupError` for a configuration that listens on no address."""
    if not generation.routers:
        message = "no server block has an address to listen on, so nothing would be served"
        raise StartupError(f"{message}; use bind with an address of this host")


def log_warnings(generation: Generation) -> None:
    """Log the warnings of a configuration: valid, but probably not intended."""
    for warning in generation.warnings:
        server_logger().warning("%s", warning)


def log_packet_cache(generation: Generation, server: Server) -> None:
    """Log for which zones the packet cache is on."""
    for line in packet_cache_lines(generation, server):
        server_logger().info("%s", line)
