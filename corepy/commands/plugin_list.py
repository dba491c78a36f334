"""`corepy -plugins`: lists the installed plugins, and `-order` lists them in chain order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from corepy.commands.standard_output import write_output
from corepy.loading.extras import missing_extra
from corepy.loading.registry import find
from corepy.server.options import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.loading.registry import FoundPlugin


def list_plugins() -> int:
    """Print the installed plugins in the format of CoreDNS, without importing them."""
    found = find()
    write_output("".join(f"{directive}\n" for directive in found))
    _report_missing_extras(found)
    return EXIT_OK


def list_in_order(file: str | None) -> int:
    """Print the installed plugins in chain order, each with the reason for its position.

    `file` contains the operator's rules for the order.
    """
    from corepy.corefile import CorefileError
    from corepy.loading.order_table import positions, table
    from corepy.loading.orderfile import load_order

    installed = find()
    try:
        found, problems = positions(load_order(file) if file is not None else [], installed)
    except CorefileError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILURE
    write_output(table(found))
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    _report_missing_extras(installed)
    return EXIT_FAILURE if problems else EXIT_OK


def _report_missing_extras(found: Mapping[str, FoundPlugin]) -> None:
    """Name the listed plugins that need packages which are not installed."""
    for directive, plugin in found.items():
        problem = missing_extra(directive, plugin.entry_point)
        if problem:
            sys.stderr.write(f"plugin/{directive} (from {plugin.distribution}): {problem}\n")
