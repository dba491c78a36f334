"""The command `corepy`: its flags, their output, its exit codes. No other module reads argv.

The flags are those of coremain/run.go, with the syntax of Go's flag package. `corepy NAME ...` runs
the command NAME from the entry-point group `corepy.commands`; see `corepy.commands`.

Exit codes: 0 success or graceful stop, 1 the configuration is invalid or cannot run here, 2 wrong
usage.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from typing import TYPE_CHECKING, Final

from corepy.commands.standard_output import write_output
from corepy.flags import EXIT_USAGE, Parser
from corepy.net.descriptors import fill_standard_descriptors
from corepy.net.signal_reset import restore_signals
from corepy.server.options import DEFAULT_PORT, EXIT_FAILURE, EXIT_OK, Options
from corepy.server.pidfile import discard_stale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (by default the process's arguments); return its exit code."""
    fill_standard_descriptors()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and not arguments[0].startswith("-"):
        return _printing(lambda: _plugin_command(arguments[0], arguments[1:]))
    parser = _parser()
    flags = parser.read(arguments)
    for flag, partner in _PARTNERS.items():
        if getattr(flags, flag) and not getattr(flags, partner):
            parser.error(f"-{flag} needs -{partner}")
    for name in ("conf", "pidfile", "plugin_order"):  # as in Go, "" is a flag that is not given
        setattr(flags, name, getattr(flags, name) or None)
    if flags.version or flags.plugins or flags.completion or flags.check:
        return _printing(lambda: _show(flags))
    restore_signals()
    discard_stale(flags.pidfile)
    return _supervise(flags) if flags.supervise else _serve(_options(flags))


def _options(flags: argparse.Namespace) -> Options:
    return Options(
        conf=flags.conf,
        port=flags.port,
        quiet=flags.quiet,
        pidfile=flags.pidfile,
        log_format=flags.log_format,
        plugin_order=flags.plugin_order,
    )


def _show(flags: argparse.Namespace) -> int:
    """Run a flag that prints something and starts no server."""
    from corepy.release import conflict

    if not flags.completion and (warning := conflict()):
        sys.stderr.write(f"corepy: {warning}\n")
    if flags.version:
        from corepy.release import version_text

        write_output(version_text())
        return EXIT_OK
    if flags.plugins:
        from corepy.commands.plugin_list import list_in_order, list_plugins

        return list_in_order(flags.plugin_order) if flags.order else list_plugins()
    if flags.completion:
        return _complete(flags.completion)
    return _check(_options(flags), as_json=flags.json)


def _printing(command: Callable[[], int]) -> int:
    """Run a command that writes to standard output, and report a failure to write."""
    try:
        code = command()
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in _OUTPUT_FAILURES or error.filename is not None:
            raise
        if not isinstance(error, BrokenPipeError):  # a reader may close its pipe early
            sys.stderr.write(f"corepy: cannot write to standard output: {error.strerror}\n")
        # The interpreter flushes the remaining output at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    return code


_OUTPUT_FAILURES: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE))
"""Errors of a write: the disk is full, or the terminal or the reader of a pipe is gone."""

_PARTNERS: Final = {"order": "plugins", "json": "check", "fallback": "supervise"}
"""Flags that need another flag; without this check, they would start a server on their own."""


def _parser() -> Parser:
    parser = Parser(
        prog="corepy",
        usage="corepy [-conf FILE] [-dns.port PORT] [OPTION]...",
        description="A DNS server that chains plugins.",
        epilog="other commands: corepy explain, corepy fmt, corepy new-plugin, corepy status,\n"
        "corepy tail, corepy top, corepy zone, and those of plugins, such as corepy cache.\n"
        "corepy COMMAND -help shows the arguments of a command.",
    )
    flag = parser.flag
    flag("conf", metavar="FILE", help='Corefile to load, or "stdin" (default "Corefile")')
    flag(
        "dns.port",
        "p",
        dest="port",
        type=_port,
        default=DEFAULT_PORT,
        metavar="PORT",
        help="port for zones without a port (default 53)",
    )
    flag("plugins", action="store_true", help="list the installed plugins and quit")
    flag("order", action="store_true", help="with -plugins: in chain order, with the reasons")
    flag(
        "plugin-order",
        dest="plugin_order",
        metavar="FILE",
        help="rules that change the order of the chain, such as 'foo before cache'",
    )
    flag("version", action="store_true", help="show the version and quit")
    flag("quiet", action="store_true", help="print no banner on start")
    flag("pidfile", metavar="FILE", help="keep the process ID in FILE while running")
    flag(
        "log-format",
        dest="log_format",
        choices=("text", "json"),
        default="text",
        help="format of log lines (default text, as in CoreDNS)",
    )
    flag(
        "supervise",
        action="store_true",
        help="run the server as a worker process; restart and upgrade it",
    )
    flag(
        "fallback",
        type=_fallback,
        metavar="ADDRESS",
        help="with -supervise: relay to this name server while no worker can be started",
    )
    flag("check", action="store_true", help="check the Corefile without opening sockets, and quit")
    flag("json", action="store_true", help="with -check: print the result as JSON")
    flag(
        "completion",
        choices=("bash", "zsh"),
        help="print the completion script of a shell and quit",
    )
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _fallback(text: str) -> tuple[str, int]:
    from corepy.supervise.relay import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS or ADDRESS:PORT") from error


def _complete(shell: str) -> int:
    """Print the completion script for a shell."""
    from corepy.completion import script
    from corepy.loading.plugin_commands import commands

    write_output(script(shell, _parser(), list(commands())))
    return EXIT_OK


def _serve(options: Options) -> int:
    from corepy.release import version_text
    from corepy.server.process import run

    return run(options, version_text())


def _supervise(flags: argparse.Namespace) -> int:
    from corepy.supervise.supervisor import Supervisor

    if flags.conf == "stdin":
        sys.stderr.write("corepy: -supervise needs -conf FILE, not stdin: each worker reads it\n")
        return EXIT_USAGE
    worker = ["-p", str(flags.port)]
    # A worker that starts while this file is missing must fail, not serve the default.
    conf = flags.conf or ("Corefile" if os.path.exists("Corefile") else None)
    worker += ["-conf", conf] if conf is not None else []
    worker += ["-pidfile", flags.pidfile] if flags.pidfile is not None else []
    worker += ["-quiet"] if flags.quiet else []
    worker += ["-log-format", flags.log_format]
    worker += ["-plugin-order", flags.plugin_order] if flags.plugin_order is not None else []
    identity = f"{os.path.realpath(flags.conf or 'Corefile')}:{flags.port}"
    as_json = flags.log_format == "json"
    return Supervisor(worker, flags.fallback, identity=identity, json=as_json).run()


def _check(options: Options, *, as_json: bool) -> int:
    """Print the problems of the configuration, or that it is valid."""
    from corepy import corefile
    from corepy.server.check import check

    results = check(options)
    valid = all(result.valid for result in results)
    if as_json:
        problems = [problem for result in results for problem in result.problems]
        write_output(corefile.to_json(problems, valid=valid) + "\n")
        return EXIT_OK if valid else EXIT_FAILURE
    for result in results:
        text = corefile.render(result.problems)
        (sys.stdout if result.valid else sys.stderr).write(f"{text}\n" if text else "")
        if result.valid:
            write_output(f"{result.title} is valid\n")
    return EXIT_OK if valid else EXIT_FAILURE


def _plugin_command(name: str, arguments: list[str]) -> int:
    """Run a command that a plugin provides, such as `corepy nodecache status`."""
    from corepy.loading.plugin_commands import UnusableCommandError, commands, load_command

    offered = commands()
    if name not in offered:
        sys.stderr.write(f"corepy: {_no_command(name, sorted(offered))}; see corepy -help\n")
        return EXIT_USAGE
    try:
        command = load_command(offered[name])
    except UnusableCommandError as error:
        sys.stderr.write(f"corepy {name}: {error}\n")
        return EXIT_FAILURE
    return command(arguments)


_SERVE: Final = ("serve", "server", "run", "start", "up")


def _no_command(name: str, offered: Sequence[str]) -> str:
    """Return the error message for a first argument that names no command."""
    from corepy.corefile import suggest

    if name in _SERVE:
        return f"unknown command {name!r}; to start the server, run corepy -conf FILE"
    flag = f"-{name}"
    if flag in _parser().flags:
        return f"unknown command {name!r}, did you mean corepy {flag}?"
    near = suggest(name, [*offered, *(it for it in _parser().flags if not it.startswith("--"))])
    near = near or suggest(flag, _parser().flags)
    if near is not None:
        return f"unknown command {name!r}, did you mean corepy {near}?"
    known = f"; commands: {', '.join(offered)}" if offered else ""
    return f"extra command line arguments: {name!r}{known}"
