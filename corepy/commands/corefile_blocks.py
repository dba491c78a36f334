"""Reads a Corefile for a plugin's one-shot command, without a running server.

A server sets up every plugin of every block. A command needs only its own directive and what other
directives store about the block, such as its listen addresses, so it names the few plugins to set
up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy import corefile
from corepy.corefile import CorefileError, Diagnostic
from corepy.loading.registry import find, load
from corepy.plugin.block_config import BlockConfig
from corepy.plugin.controller import Controller
from corepy.plugin.errors import PluginError
from corepy.server.listen.transports import KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.corefile import ServerBlock


def controllers_of(
    path: str, directive: str, default_port: int = 53, *, after: Sequence[str] = ()
) -> list[Controller]:
    """Return a controller of `directive` for each server block of a Corefile that contains it.

    The plugins that `after` names are set up first in the blocks that have them. `default_port`
    applies to zones without a port. Raises `CorefileError` for errors in the Corefile or in one of
    these plugins, and `OSError` if the Corefile cannot be read.
    """
    loaded = corefile.load(path, schemes=KNOWN)
    blocks = [it for it in loaded.blocks if directive in it.directives]
    opened = [(it, BlockConfig(corefile.server_keys(it, default_port, KNOWN))) for it in blocks]
    for name in after:
        using = [(block, config) for block, config in opened if name in block.directives]
        if using:
            setup = _setup_of(name, using[0][0])
            for block, config in using:
                setup(Controller(name, block, config))
    return [Controller(directive, block, config) for block, config in opened]


def _setup_of(name: str, block: ServerBlock) -> Callable[[Controller], None]:
    token = block.directives[name][0]
    found = find()
    if name not in found:
        raise CorefileError(Diagnostic(f"{name} is not installed", token))
    try:
        return load(found[name]).setup
    except PluginError as error:
        raise CorefileError(Diagnostic(str(error), token)) from error
