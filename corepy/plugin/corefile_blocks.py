"""Reads a Corefile for a plugin's one-shot command, without a running server.

A server sets up every plugin of every block. A command needs only its own directive and the listen
addresses of its blocks. *bind* sets these addresses, so it is the only other plugin that is
imported and set up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy import corefile
from corepy.corefile import CorefileError, Diagnostic
from corepy.plugin.controller import BlockConfig, Controller
from corepy.plugin.errors import PluginError
from corepy.plugin.registry import find, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.corefile import ServerBlock

_BIND = "bind"


def controllers_of(path: str, directive: str, default_port: int = 53) -> list[Controller]:
    """Return a controller of `directive` for each server block of a Corefile that contains it.

    `default_port` applies to zones without a port. Raise `CorefileError` for errors in the Corefile
    or in the *bind* of such a block, and `OSError` if it cannot be read.
    """
    blocks = [it for it in corefile.load(path).blocks if directive in it.directives]
    opened = [(it, BlockConfig(corefile.server_keys(it, default_port))) for it in blocks]
    bound = [(block, config) for block, config in opened if _BIND in block.directives]
    if bound:
        bind = _setup_of_bind(bound[0][0])
        for block, config in bound:
            bind(Controller(_BIND, block, config))
    return [Controller(directive, block, config) for block, config in opened]


def _setup_of_bind(block: ServerBlock) -> Callable[[Controller], None]:
    token = block.directives[_BIND][0]
    found = find()
    if _BIND not in found:
        raise CorefileError(Diagnostic(f"{_BIND} is not installed", token))
    try:
        return load(found[_BIND]).setup
    except PluginError as error:
        raise CorefileError(Diagnostic(str(error), token)) from error
