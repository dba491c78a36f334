"""Selects the upstreams that this machine can use, at the start and while the server runs.

An unusable upstream does not affect the others: it is skipped, with a reason, until it is usable.
Two conditions change while a server runs: network interfaces, which link-local addresses need,
appear and disappear, and an address may become this server's own.

An upstream that is an address of this server block would cause a forwarding loop. Another block of
the same server is a valid upstream; CoreDNS's manual has an example. A TO that is an own address is
an error in the Corefile and is rejected. In a file, the line is skipped, because the address of a
node-local cache may be in the resolv.conf that the cache reads. When the Corefile is loaded, only
the addresses of `bind` are known; a wildcard means all addresses of this machine, or those of one
family, and is checked before the server listens.

`Watch` updates the upstreams without a reload. A file is read again when it changes. If it is
missing, unreadable or without name servers, the name servers read last stay in use, because another
program may be writing the file. A host name that could not be resolved is looked up every few
seconds.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, NamedTuple

from corepy.net.sockets import Address
from corepy.plugin import ListenHosts, plugin_logger
from corepy.plugin.reading import file_version
from corepy_forward.resolve import look_up, read_resolv_conf
from corepy_forward.targets import as_ip, split_host_port, without_repeats

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from corepy.plugin import BlockConfig, Controller, Token
    from corepy_forward.discovery import Discovery
    from corepy_forward.pool import Pool
    from corepy_forward.settings import Settings
    from corepy_forward.targets import Target, ToAddress

OwnAddress = tuple[str, int]
"""Host and port of a listening socket.

The host is an IP address, possibly with its zone, or a wildcard: 0.0.0.0, ::, or "" for both.
"""

_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The address that a socket connected to an unspecified address reaches."""

INTERVAL = 1.0
"""Seconds between two checks.

A check is one stat(2) for each file, which detects replaced mounts and links, as inotify would not;
an if_nametoindex for each interface of an upstream; and, if the block listens on all addresses at
the port of an upstream, one bind(2).
"""

LOOK_UP_INTERVAL = 5.0
"""Seconds between two look-ups of the host names that could not be resolved."""

log = plugin_logger("forward")


def refuse_own_addresses(controller: Controller, entry: ToAddress, token: Token) -> None:
    """Raise an error if a TO is an address that the block listens on."""
    own = own_among(entry.targets, named_addresses(controller.config))
    if own is not None:
        raise controller.error(
            f"upstream {own.address} is an address that this server listens on",
            token,
            "queries would loop",
        )


def skipped_own(target: Target, position: str) -> str:
    """Return the message for a line of a file with an address of this server block."""
    return f"{position}: {target.address} is this server itself; the line is skipped"


def named_addresses(config: BlockConfig) -> list[OwnAddress]:
    """Return the addresses and ports of the block's *bind* directives, without wildcards."""
    ports = {key.port for key in config.keys if key.transport == "dns"}
    named = [host for host in config.get(ListenHosts).hosts if not _is_wildcard(host)]
    return [(host, port) for host in named for port in ports]


def own_addresses(config: BlockConfig, listening: Sequence[str]) -> list[OwnAddress]:
    """Return the addresses and ports that the block listens on.

    `listening` has those of the whole server, as "dns://host:port". It is needed for the number of
    a port that the kernel chooses.
    """
    hosts = {_normal(host) for host in config.get(ListenHosts).hosts}
    ports = {key.port for key in config.keys if key.transport == "dns"}
    return [
        (host, port)
        for host, port in _addresses(listening)
        if _normal(host) in hosts and (port in ports or 0 in ports)
    ]


def _addresses(listening: Iterable[str]) -> Iterable[OwnAddress]:
    for address in listening:
        transport, _, rest = address.partition("://")
        split = split_host_port(rest)
        if transport == "dns" and split is not None and split[1].isdigit():
            yield split[0], int(split[1])


def _normal(host: str) -> str:
    return as_ip(host.partition("%")[0]) or host


def _is_wildcard(host: str) -> bool:
    return Address(host, 0).is_wildcard


def own_among(targets: Iterable[Target], own: Sequence[OwnAddress]) -> Target | None:
    """Return the first of `targets` that is one of the addresses `own`."""
    for target in targets:
        if target.transport == "dns" and any(_is(target, host, port) for host, port in own):
            return target
    return None


def _is(target: Target, host: str, port: int) -> bool:
    if target.port != port:
        return False
    if _is_wildcard(host):
        serves_family = not host or (":" in host) == (":" in target.host)
        return serves_family and is_local(target)
    zone = host.partition("%")[2]
    if zone and target.scope and zone != target.scope:
        return False  # the same link-local address on another link
    return _normal(host) == _UNSPECIFIED.get(target.host, target.host)


def is_local(target: Target) -> bool:
    """Whether an address belongs to this machine, which is the case if a socket can bind to it."""
    with socket.socket(target.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(target._replace(port=0).sockaddr)
        except OSError:
            return False
    return True


class Choice(NamedTuple):
    """The upstreams to use, and the reasons why others are skipped."""

    targets: list[Target]
    problems: list[str]


def choose(entries: Iterable[ToAddress], own: Sequence[OwnAddress]) -> Choice:
    """Return the currently usable upstreams; `own` are the addresses that the block listens on.

    If none of an entry's upstreams is usable, those used last stay in use.
    """
    chosen: list[Target] = []
    problems: list[str] = []
    for entry in entries:
        problems += entry.problems
        usable = list(_usable(entry, own, problems))
        if usable:
            entry.last = usable
        elif entry.last and entry.targets:
            problems.append(f"{entry.text}: its last name servers stay in use")
        chosen += entry.last
    return Choice(without_repeats(chosen), problems)


def _usable(entry: ToAddress, own: Sequence[OwnAddress], problems: list[str]) -> Iterator[Target]:
    for target in entry.targets:
        position = entry.positions.get(target, entry.position)
        try:
            found = target._replace(interface=interface_index(target.scope))
        except ValueError as error:
            problems.append(
                f"{position}: {target.address} is skipped until it can be used: {error}"
            )
            continue
        if (entry.file or entry.hostname) and own_among([found], own):
            problems.append(skipped_own(found, position))
            continue
        yield found


def interface_index(zone: str) -> int:
    """Return the index of the network interface whose name or number is `zone`; 0 for "".

    Raises `ValueError` if this machine has no such interface.
    """
    if not zone:
        return 0
    try:
        if zone.isascii() and zone.isdigit():
            index = int(zone)
            socket.if_indextoname(index)
            return index
        return socket.if_nametoindex(zone)
    except (OSError, OverflowError, ValueError):
        raise ValueError(f"network interface {zone!r} does not exist") from None


def changes(settings: Settings) -> bool:
    """Whether the upstreams of a `forward` line may change while the server runs."""
    return any(
        entry.file is not None
        or (entry.hostname is not None and not entry.targets)
        or any(target.scope for target in entry.targets)
        for entry in settings.entries
    )


class Watch:
    """Checks the upstreams of one `forward` line periodically, and applies changes to the pool."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        listening: Sequence[OwnAddress],
        known: Iterable[str],
        discovery: Discovery | None = None,
    ) -> None:
        """Start the checks.

        `listening` are the block's own addresses, which are never used as upstreams; `known` are
        the problems that were logged already. `discovery` replaces upstreams by those that they
        designate.
        """
        self._settings = settings
        self._pool = pool
        self._listening = listening
        self._discovery = discovery
        self._problems = set(known)
        self._faults: dict[Path, str] = {}
        self._look_up: asyncio.Task[None] | None = None
        self._next_look_up = pool.loop.time() + LOOK_UP_INTERVAL
        self._timer: asyncio.TimerHandle = pool.loop.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = self._pool.loop.call_later(INTERVAL, self._look)
        for entry in self._settings.entries:
            if entry.file is not None and file_version(entry.file) != entry.version:
                self._read(entry, entry.file)
        self._begin_look_up()
        self._use()

    def _read(self, entry: ToAddress, file: Path) -> None:
        """Read a file that has changed, or may have changed."""
        try:
            contents = read_resolv_conf(file)
            entry.version = contents.version
            if not contents.servers:
                raise ValueError(f"{file} contains no usable name servers")
        except ValueError as error:
            if self._faults.get(file) != str(error):
                log.warning("%s: %s; its last name servers stay in use", entry.position, error)
            self._faults[file] = str(error)
            return
        self._faults.pop(file, None)
        entry.targets = [server.target for server in contents.servers]
        entry.positions = {server.target: server.position for server in reversed(contents.servers)}
        entry.problems = contents.problems

    def _use(self) -> None:
        """Switch to the usable upstreams; log each problem once while it lasts."""
        choice = choose(self._settings.entries, self._listening)
        log_problems(choice.problems, self._problems)
        self._problems = set(choice.problems)
        if choice.targets != self._configured():
            if self._discovery is None:
                self._pool.retarget(choice.targets)
            else:
                self._discovery.replace(choice.targets)
            log.info("upstreams are now %s", " ".join(t.address for t in choice.targets))

    def _configured(self) -> list[Target]:
        if self._discovery is not None:
            return list(self._discovery.configured)
        return [upstream.target for upstream in self._pool.upstreams]

    def _begin_look_up(self) -> None:
        """Start a task that looks up the host names that are not resolved yet."""
        missing = [e for e in self._settings.entries if e.hostname is not None and not e.targets]
        now = self._pool.loop.time()
        if missing and self._look_up is None and now >= self._next_look_up:
            self._look_up = self._pool.loop.create_task(self._find(missing))

    async def _find(self, missing: Collection[ToAddress]) -> None:
        try:
            await look_up(missing, self._settings.resolvers)
        finally:
            self._next_look_up = self._pool.loop.time() + LOOK_UP_INTERVAL
            self._look_up = None

    def stop(self) -> None:
        """Stop the checks."""
        self._timer.cancel()
        if self._look_up is not None:
            self._look_up.cancel()


def log_problems(problems: Iterable[str], known: Collection[str]) -> None:
    """Log a warning for each problem that is not in `known`."""
    for problem in dict.fromkeys(problems):
        if problem not in known:
            log.warning("%s", problem)
