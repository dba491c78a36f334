"""Import the parts of pyroute2 that links and addresses need, to save memory.

`import pyroute2` loads 230 modules (13 MB), from WireGuard to ipsets; links and addresses need half
of them. A node's cache has a memory limit. So the package's `__init__` is skipped while its parts
are imported: an empty module takes its place in `sys.modules`. That module is removed afterwards,
so other code that imports pyroute2 gets the complete package.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
import types
from typing import TYPE_CHECKING, NamedTuple

from corepy_nodecache.model import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

_PACKAGE = "pyroute2"


class Parts(NamedTuple):
    """The classes of pyroute2 that nodecache uses."""

    route: type[IPRoute]
    error: type[NetlinkError]


@functools.cache
def parts() -> Parts:
    """Return the classes; imports them on the first call."""
    spec = importlib.util.find_spec(_PACKAGE)
    if _PACKAGE in sys.modules or spec is None or spec.submodule_search_locations is None:
        return _import()
    bare = types.ModuleType(_PACKAGE)
    bare.__path__ = spec.submodule_search_locations
    sys.modules[_PACKAGE] = bare
    try:
        return _import()
    finally:
        del sys.modules[_PACKAGE]


def _import() -> Parts:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    return Parts(IPRoute, NetlinkError)


@contextlib.contextmanager
def open_route(kind: str) -> Iterator[IPRoute]:
    """Open rtnetlink; errors inside the `with` statement are raised as `HostError` of this kind."""
    try:
        with parts().route() as route:
            yield route
    except parts().error as error:
        raise HostError(kind, f"rtnetlink: {os.strerror(error.code)}") from error
    except OSError as error:
        raise HostError(kind, f"rtnetlink: {error}") from error
