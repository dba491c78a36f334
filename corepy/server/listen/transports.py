"""The table of transports: those in the tree, and those of installed distributions.

A transport in the tree is a module in this package with a constant `TRANSPORT`, and a line in
`IN_TREE`. A distribution can offer one with an entry point of the group "corepy.transports", whose
name is the scheme and whose value is a `corepy.server.listen.transport.Transport`. Modules are
imported when a Corefile uses the scheme. Unlike the API of plugins, that of transports may change
with any release of corepy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from corepy.corefile.zones import SCHEMES
from corepy.loading import registry
from corepy.plugin.errors import describe
from corepy.server.listen.query_listener import Listener
from corepy.server.listen.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator


IN_TREE: Final = {
    "dns": "corepy.server.listen.plain_dns",
    "tls": "corepy.server.listen.dns_over_tls",
    "quic": "corepy.server.listen.dns_over_quic",
    "https": "corepy.server.listen.http.https",
    "https3": "corepy.server.listen.http.https3",
    "grpc": "corepy.server.listen.http.grpc",
}
"""The modules of the transports in the tree by scheme."""

GROUP: Final = "corepy.transports"

_loaded: dict[str, Transport] = {}


class TransportError(Exception):
    """No transport can serve a scheme; the message names the scheme and the reason."""


def get(scheme: str) -> Transport:
    """Return the transport for `scheme`; raise `TransportError` if it cannot be served."""
    if scheme not in _loaded:
        if scheme in IN_TREE:
            _loaded[scheme] = _import(scheme)
        else:
            _loaded[scheme] = _load(scheme)
    return _loaded[scheme]


def _import(scheme: str) -> Transport:
    try:
        transport: Transport = importlib.import_module(IN_TREE[scheme]).TRANSPORT
    except ModuleNotFoundError as error:  # a package of an extra, which has the scheme's name
        package = str(error.name).partition(".")[0]
        needed = f"{scheme}:// needs {package}, which is not installed"
        raise TransportError(f"{needed}: pip install 'corepy-dns[{scheme}]'") from None
    return transport


def _load(scheme: str) -> Transport:
    found = registry.find(group=GROUP).get(scheme)
    if found is None:
        served = ", ".join(f"{each}://" for each in IN_TREE)
        raise TransportError(f"corepy does not serve {scheme}:// (only {served})")
    if found.rivals:
        claimants = ", ".join((found.distribution, *found.rivals))
        raise TransportError(f"{scheme}:// is offered by {claimants}; remove all but one")
    problem: str = "is not a Transport of this scheme"
    transport: Any = None
    try:
        transport = found.entry_point.load()
    except BaseException as error:  # third-party code: its sys.exit() must not end the process
        problem = f"cannot be imported: {describe(error)}"
    if isinstance(transport, Transport) and transport.scheme == scheme:
        problem = _shape_problem(transport)
    if problem:
        raise TransportError(f"the transport {scheme}:// (from {found.distribution}) {problem}")
    return cast("Transport", transport)


def _shape_problem(transport: Transport) -> str:
    """Return the field that a server could not use; "" if there is none."""
    port, kinds = transport.default_port, transport.listeners
    if port is not None and (type(port) is not int or not 0 < port < 65536):
        return f"has a default port that is not one: {port!r}"
    if not isinstance(kinds, tuple) or not kinds:
        return "has no tuple of listeners"
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, Listener):
            return f"has a listener that is not a subclass of Listener: {kind!r}"
    networks = [getattr(kind, "network", None) for kind in kinds]
    if not set(networks) <= {"udp", "tcp"} or len(set(networks)) < len(networks):
        return f"needs at most one udp and one tcp socket, not {networks!r}"
    return ""


class _Schemes(Mapping[str, int | None]):
    """The default ports of schemes, as `SCHEMES`, with those of installed distributions."""

    def __contains__(self, scheme: object) -> bool:
        return scheme in SCHEMES or scheme in registry.find(group=GROUP)

    def __getitem__(self, scheme: str) -> int | None:
        if scheme in SCHEMES:
            return SCHEMES[scheme]
        if scheme not in self:
            raise KeyError(scheme)
        try:
            return get(scheme).default_port
        except TransportError:  # reported for the key
            return None

    def __iter__(self) -> Iterator[str]:
        return iter({**SCHEMES, **registry.find(group=GROUP)})

    def __len__(self) -> int:
        return len(list(iter(self)))


KNOWN: Final = _Schemes()
"""The schemes that a key in a Corefile can have, with their default ports."""
