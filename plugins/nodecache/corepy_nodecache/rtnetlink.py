"""Loading pyroute2 for as little memory as it can be had.

`import pyroute2` loads all of it (230 modules, 13 MB), from WireGuard to ipsets, of which links and
addresses need half. A node's cache has a memory limit, so the package's `__init__` is passed over
while its parts are imported. It is then forgotten, so that whoever else imports pyroute2 gets the
whole.
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
    """What is used of pyroute2."""

    route: type[IPRoute]
    error: type[NetlinkError]


@functools.cache
def parts() -> Parts:
    """Import them, for the first caller."""
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
    """Open rtnetlink; what goes wrong in the body is raised as `HostError` of this kind."""
    try:
        with parts().route() as route:
            yield route
    except parts().error as error:
        raise HostError(kind, f"rtnetlink: {os.strerror(error.code)}") from error
    except OSError as error:
        raise HostError(kind, f"rtnetlink: {error}") from error
