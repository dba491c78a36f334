"""Runs `node-cache`: reads the flags, and serves the effective Corefile.

Exit codes: 0 after a graceful stop or SIGQUIT, 1 if the Corefile cannot be used, an address or a
port is wrong, or there are surplus arguments, 2 for other wrong flags. They are node-cache's.
"""

from __future__ import annotations

import io
import os
import sys

from corepy.commands.run_server import (
    check_generated,
    print_plugins,
    print_version,
    run_server,
)
from corepy.plugin import CorefileError
from corepy_nodecache.node_cache.corefile_maker import CorefileMaker
from corepy_nodecache.node_cache.flags import (
    FAILURE,
    FlagError,
    HelpRequestedError,
    help_text,
    read_flags,
    require_addresses,
)
from corepy_nodecache.node_cache.sync import Sync


def run(arguments: list[str]) -> int:
    """Run the command with `arguments` and the process's environment; return the exit code."""
    try:
        options, warnings = read_flags(arguments, os.environ)
        sys.stderr.writelines(f"node-cache: {warning}\n" for warning in warnings)
        if options.version:
            return print_version()
        if options.plugins:
            return print_plugins()
        require_addresses(options)
    except HelpRequestedError:
        sys.stdout.write(help_text())
        return 0
    except FlagError as error:
        sys.stderr.write(f"node-cache: {error}; see node-cache -help\n")
        return error.code
    maker = CorefileMaker(options, os.environ)
    if options.print_corefile:
        return _print_corefile(maker)
    pidfile = options.pidfile or None
    sync = Sync(maker)
    return run_server(maker, sync.run, port=options.port, quiet=options.quiet, pidfile=pidfile)


def _print_corefile(maker: CorefileMaker) -> int:
    """Print the effective Corefile; errors go to standard error."""
    candidate = maker.candidate(maker.look())
    problems = list(candidate.problems)
    if candidate.corefile is not None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape")  # the template may not be UTF-8
        sys.stdout.write(candidate.corefile.text)
        errors = check_generated(candidate.corefile, maker.options.port)
        problems += [str(CorefileError(*errors))] if errors else []
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return FAILURE if problems else 0
