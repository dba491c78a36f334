"""Read and change the interface and its addresses through pyroute2.

The kernel itself stores the marks of corepy's objects. So no state file can contradict it, and a
crash loses nothing. A link has `MARK` as its alias (shown by `ip link`), or `ADOPTED`. An address
has the protocol number `PROTOCOL` (shown by `ip addr` as "proto 0xc0"; Linux 5.18). Older kernels
drop that number; there, host addresses on a link of ours count as ours. Objects without a mark
existed before: they are used unchanged and never removed. The interface of the program node-cache
is the exception: with `adopt_node_cache` it gets our marks.

pyroute2 is imported when first needed, in the worker thread.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from corepy_nodecache.driver import NO_DUMMY
from corepy_nodecache.model import MARK, Address, HostError, family_of
from corepy_nodecache.rtnetlink import open_route, parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pyroute2 import IPRoute, Message

PROTOCOL: Final = 0xC0
"""IFA_PROTO of our addresses, a number that neither the kernel (1 to 3) nor a known daemon uses."""

ADOPTED: Final = f"{MARK}, adopted"
"""The alias of a link that corepy has taken over from the program node-cache."""

ADOPTED_KIND: Final = "dummy"
"""The kind of the links that the program node-cache makes."""

_IFA_F_NODAD: Final = 0x02
_IFF_UP: Final = 0x01
_HOST_PREFIX: Final = {4: 32, 6: 128}


class Link(NamedTuple):
    """A network interface in the current state of the kernel."""

    number: int
    name: str
    kind: str
    is_up: bool
    is_ours: bool
    is_adopted: bool = False
    """Whether another program made it, maybe with addresses that have no mark."""


class Placed(NamedTuple):
    """An address in the current state of the kernel."""

    device: str
    ip: str
    is_ours: bool

    @property
    def is_link_local(self) -> bool:
        """Whether this is an IPv6 link-local address."""
        return self.ip.startswith("fe80:")


class Snapshot(NamedTuple):
    """All links by name and all addresses, read at one time."""

    links: dict[str, Link]
    addresses: tuple[Placed, ...]

    def on(self, device: str) -> list[Placed]:
        """Return the addresses of one device, without the kernel's own link-local address."""
        return [it for it in self.addresses if it.device == device and not it.is_link_local]

    def elsewhere(self, address: Address) -> str:
        """Return another device that already has this address, or an empty string."""
        others = (it.device for it in self.addresses if it.ip == address.ip)
        return next((device for device in others if device != address.device), "")

    def ours(self) -> list[Address]:
        """Return the addresses that corepy added."""
        return [Address(it.device, it.ip) for it in self.addresses if it.is_ours]


class Links:
    """The links and addresses of this network namespace; used by one thread at a time."""

    def read(self) -> Snapshot:
        """Return the links and addresses; raises `HostError`."""
        with open_route("interface_check") as route:
            return _snapshot(route)

    def ensure(
        self, wanted: Iterable[Address], adopted: Collection[str] = frozenset()
    ) -> list[str]:
        """Add each address to its device, and create missing devices as dummy links.

        Returns the changes as text. An address that another device already has is not moved. The
        dummy links in `adopted` get our marks, and so do their addresses in `wanted`. Raises
        `HostError`.
        """
        done: list[str] = []
        with open_route("interface_add") as route:
            for device in sorted({address.device for address in wanted}):
                done += _ensure_link(route, device)
            now = _snapshot(route)
            for address in sorted(wanted):
                if not _is_there(now, address):
                    _add(route, now.links[address.device].number, address)
                    done.append(f"added {address.ip} to {address.device}")
            for device in sorted(adopted):
                done += _adopt(route, now, device, wanted)
        return done

    def remove(
        self, addresses: Iterable[Address], whole: Collection[str] = frozenset()
    ) -> list[str]:
        """Remove those of `addresses` that corepy added, then its links without addresses.

        Links of corepy in `whole` are removed with all addresses.
        """
        done: list[str] = []
        with open_route("interface_check") as route:
            now = _snapshot(route)
            for address in sorted(set(addresses).intersection(now.ours())):
                _delete(route, now.links[address.device].number, address)
                done.append(f"removed {address.ip} from {address.device}")
            devices = {address.device for address in addresses}
            done += _remove_empty(route, devices.union(whole), whole)
        return done

    def remove_all(self) -> list[str]:
        """Remove every address and link with our mark, adopted links with all addresses."""
        now = self.read()
        devices = [link.name for link in now.links.values() if link.is_ours]
        adopted = [link.name for link in now.links.values() if link.is_adopted]
        return self.remove([*now.ours(), *(Address(device, "") for device in devices)], adopted)


def _snapshot(route: IPRoute) -> Snapshot:
    links = {link.name: link for link in map(_link, route.get_links())}
    by_index = {link.number: link for link in links.values()}
    addresses = (_placed(message, by_index) for message in route.get_addr())
    return Snapshot(links, tuple(address for address in addresses if address))


def _link(message: Message) -> Link:
    info, alias = message.get_attr("IFLA_LINKINFO"), message.get_attr("IFLA_IFALIAS")
    return Link(
        number=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") if info else None) or "",
        is_up=bool(message["flags"] & _IFF_UP),
        is_ours=alias in (MARK, ADOPTED),
        is_adopted=alias == ADOPTED,
    )


def _placed(message: Message, links: dict[int, Link]) -> Placed | None:
    link = links.get(message["index"])
    # For a point-to-point IPv4 link IFA_ADDRESS is the peer and IFA_LOCAL the own address.
    ip = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if link is None or ip is None:
        return None
    is_host = message["prefixlen"] == _HOST_PREFIX[family_of(ip)]
    return Placed(link.name, ip, is_marked(message.get_attr("IFA_PROTO"), link.is_ours and is_host))


def is_marked(protocol: int | None, is_host_on_our_link: bool, kernel: str | None = None) -> bool:
    """Return whether corepy added an address, from its IFA_PROTO and its link."""
    if protocol is None and is_host_on_our_link:
        return not kernel_keeps_protocol(kernel or os.uname().release)
    return protocol == PROTOCOL


def kernel_keeps_protocol(release: str) -> bool:
    """Return whether a kernel release, such as "6.1.0-13-amd64", stores IFA_PROTO (Linux 5.18)."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major), int(minor)) >= (5, 18)


def _is_there(now: Snapshot, address: Address) -> bool:
    return any(it.ip == address.ip for it in now.addresses)


def _ensure_link(route: IPRoute, device: str) -> list[str]:
    link = _snapshot(route).links.get(device)
    if link and link.is_up:
        return []
    if link:
        route.link("set", index=link.number, state="up")
        return [f"set {device} up"]
    _create(route, device)
    return [f"added interface {device}"]


def _create(route: IPRoute, device: str) -> None:
    try:
        route.link("add", ifname=device, kind="dummy")
    except parts().error as error:
        if error.code == errno.EEXIST:  # another corepy process was faster
            return
        if error.code == errno.EOPNOTSUPP:
            raise HostError("interface_add", NO_DUMMY.format(device=device)) from error
        raise
    (index,) = route.link_lookup(ifname=device)
    # The alias comes first: after a crash right here the next start must recognize the link.
    route.link("set", index=index, ifalias=MARK)
    route.link("set", index=index, state="up")


def _add(
    route: IPRoute, index: int, address: Address, command: Literal["add", "replace"] = "add"
) -> None:
    options: dict[str, object] = {"flags": _IFA_F_NODAD} if address.family == 6 else {}
    prefix = _HOST_PREFIX[address.family]
    try:
        route.addr(
            command, index=index, address=address.ip, prefixlen=prefix, proto=PROTOCOL, **options
        )
    except parts().error as error:
        if error.code != errno.EEXIST:
            raise


def _adopt(route: IPRoute, now: Snapshot, device: str, wanted: Iterable[Address]) -> list[str]:
    """Mark a dummy link that another program has made, and its desired addresses, as corepy's."""
    link = now.links.get(device)
    if link is None or link.is_ours or link.kind != ADOPTED_KIND:
        return []
    theirs = {it.ip for it in now.on(device) if not it.is_ours}
    for address in sorted(wanted):
        # Some kernels (6.1) keep the protocol number of the existing address. So addresses are
        # marked only once, and the alias makes the link, as a whole, removable.
        if address.device == device and address.ip in theirs:
            _add(route, link.number, address, "replace")
    route.link("set", index=link.number, ifalias=ADOPTED)
    return [f"took over interface {device}"]


def _delete(route: IPRoute, index: int, address: Address) -> None:
    prefix = _HOST_PREFIX[address.family]
    route.addr("del", index=index, address=address.ip, prefixlen=prefix)


def _remove_empty(route: IPRoute, devices: set[str], whole: Collection[str]) -> list[str]:
    now = _snapshot(route)
    done = []
    for name in sorted(devices):
        link = now.links.get(name)
        if link and link.is_ours and (name in whole or not now.on(name)):
            route.link("del", index=link.number)
            done.append(f"removed interface {name}")
    return done
