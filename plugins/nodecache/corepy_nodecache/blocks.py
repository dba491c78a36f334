"""The nodecache settings in a Corefile, for the one-shot commands, which run without a server.

A server sets up all plugins; here only *bind* is asked for its addresses, then ours is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy import corefile
from corepy.plugin import BlockConfig, Controller, PluginError
from corepy.plugin.registry import find, load
from corepy_nodecache.model import HostError
from corepy_nodecache.setup import parse

if TYPE_CHECKING:
    from corepy.corefile import ServerBlock
    from corepy_nodecache.settings import Settings

_DEFAULT_PORT = 53


def load_settings(path: str) -> list[Settings]:
    """Return the settings of every server block that has the directive; raises `HostError`."""
    try:
        blocks = corefile.load(path).blocks
        return [_settings(block) for block in blocks if "nodecache" in block.directives]
    except OSError as error:
        message = f"cannot read the Corefile {path}: {error.strerror}"
        raise HostError("configuration", message) from error
    except (corefile.CorefileError, PluginError) as error:
        raise HostError("configuration", str(error)) from error


def _settings(block: ServerBlock) -> Settings:
    config = BlockConfig(corefile.server_keys(block, _DEFAULT_PORT))
    if "bind" in block.directives:
        load(find()["bind"]).setup(Controller("bind", block, config))
    return parse(Controller("nodecache", block, config))
