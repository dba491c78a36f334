"""Finds the addresses of upstreams that are given by a file or by a host name.

Files have the format of resolv.conf(5). The second word of a line is the address. An unusable line
does not affect the others: it is skipped, with a message about the reason.

Host names are resolved at the start (CoreDNS: plugin/forward/resolve.go). With the option
`resolver`, its servers are asked one after the other; without it, names are resolved with the
system's getaddrinfo.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, NamedTuple

from corepy.dns import Reply, names
from corepy.dns.constants import CLASS_IN, TYPE_A, TYPE_AAAA
from corepy.dns.form_error import FormError
from corepy.dns.message import query
from corepy.dns.wire import ANSWER, walk
from corepy.plugin.reading import FileVersion, read_file
from corepy.plugin.resolv_conf import MOST_BYTES, read_lines
from corepy_forward.attempt import draw_ident
from corepy_forward.failures import explain
from corepy_forward.targets import PORTS, Target, as_ip, flaw, scope_of, split_host_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from corepy_forward.targets import Hostname, ToAddress

MAX_SERVERS = 64
"""Maximum number of name servers used from one file.

Each needs a probe and sockets. Resolvers of the C library use at most three.
"""

_MAX_PROBLEMS = 5
_KEYWORD = "nameserver"

TIMEOUT = 2.0
"""Seconds for each query to each resolver."""

_UNKNOWN = (socket.EAI_NONAME, socket.EAI_NODATA)
_LENGTHS = {TYPE_A: 4, TYPE_AAAA: 16}


class Nameserver(NamedTuple):
    """A `nameserver` line with a usable address."""

    target: Target
    position: str
    """The file and line number."""


class ResolvConf(NamedTuple):
    """The contents of a file."""

    servers: list[Nameserver]
    problems: list[str]
    """A message for each skipped line."""

    version: FileVersion | None
    """The version that was read; None if the file may change again without a new version."""


def read_resolv_conf(path: Path) -> ResolvConf:
    """Return the name servers in a file; raises `ValueError` if it cannot be read."""
    try:
        content, version = read_file(path, MOST_BYTES)
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror}") from None
    servers: list[Nameserver] = []
    problems: list[str] = []
    for number, words in read_lines(content):
        if words[0] != _KEYWORD:
            continue
        position = f"{path}:{number}"
        try:
            target = _nameserver(words)
        except ValueError as error:
            problems.append(f"{position}: {error}; the line is skipped")
            continue
        if len(words) > 2 and as_ip(words[2]):
            problems.append(f"{position}: only the first address of a line is used: {target.host}")
        servers.append(Nameserver(target, position))
    return ResolvConf(_limited(servers, problems), _shortened(problems, path), version)


def _nameserver(words: list[str]) -> Target:
    """Return the upstream in the words of a line; raises `ValueError`."""
    if len(words) == 1:
        raise ValueError("nameserver without an address")
    host, _, zone = words[1].partition("%")
    address = as_ip(host)
    if address is None:
        raise ValueError(f"not an IP address: {words[1][:60]!r}{_advice(words[1])}")
    target = Target(address, PORTS["dns"], scope=scope_of(address, zone))
    problem = flaw(target)
    if problem:
        raise ValueError(problem)
    return target


def _advice(word: str) -> str:
    split = split_host_port(word)
    if split is not None and as_ip(split[0].partition("%")[0]):
        return " (such a file names no ports; write this upstream into the Corefile)"
    return " (one address a line)" if "," in word else ""


def _limited(servers: list[Nameserver], problems: list[str]) -> list[Nameserver]:
    if len(servers) > MAX_SERVERS:
        problems.append(
            f"{servers[MAX_SERVERS].position}: more than {MAX_SERVERS} name servers; this line and"
            " those below are skipped"
        )
    return servers[:MAX_SERVERS]


def _shortened(problems: list[str], path: Path) -> list[str]:
    more = len(problems) - _MAX_PROBLEMS
    if more <= 1:
        return problems
    return [*problems[:_MAX_PROBLEMS], f"{path}: {more} more lines like these are skipped"]


async def look_up(entries: Iterable[ToAddress], resolvers: Sequence[str]) -> list[str]:
    """Set the targets of the entries that are host names.

    Return a message for each host name without a usable address.
    """
    problems = []
    for entry in entries:
        host = entry.hostname
        if host is not None:
            try:
                addresses = await _addresses(host, resolvers)
            except ValueError as error:
                problems.append(str(error))
                continue
            targets = [_target(host, address) for address in addresses]
            entry.targets = [target for target in targets if not flaw(target)]
            if not entry.targets:
                problems.append(f'failed to resolve "{host.name}": {flaw(targets[0])}')
    return problems


def _target(host: Hostname, address: str) -> Target:
    """Return the upstream at one address of a host."""
    address, _, zone = address.partition("%")
    address = as_ip(address) or address
    name = host.server_name or _verified(host)
    scope = scope_of(address, zone) if host.transport == "dns" else ""
    return Target(address, host.port, host.transport, name, scope)


def _verified(host: Hostname) -> str:
    """Return the configured name, for verification in TLS; "" without TLS."""
    return host.name.rstrip(".") if host.transport != "dns" else ""


async def _addresses(host: Hostname, resolvers: Sequence[str]) -> list[str]:
    """Return the addresses of a host, at least one; raises `ValueError`."""
    problem = ""
    try:
        if not resolvers:
            addresses = await _ask_system(host.name)
        else:
            addresses, problem = await _ask_resolvers(host.name, resolvers)
    except (OSError, UnicodeError) as error:
        addresses, problem = [], _explain(error, host.name)
    if not addresses:
        raise ValueError(f'failed to resolve "{host.name}": {problem or "no addresses found"}')
    return addresses


def _explain(error: Exception, name: str) -> str:
    """Return a message for a failed look-up, in Go's words, which monitoring may match."""
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN:
        return f"lookup {name}: no such host"
    return f"lookup {name}: {getattr(error, 'strerror', None) or error}".lower()


async def _ask_system(name: str) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def _ask_resolvers(name: str, resolvers: Sequence[str]) -> tuple[list[str], str]:
    """Return the addresses from the first resolver that has some, or else the last problem."""
    problem = ""
    wire = names.from_text(name)
    for resolver in resolvers:
        host, port = split_host_port(resolver) or (resolver.strip("[]"), "53")
        found: list[str] = []
        for qtype in (TYPE_A, TYPE_AAAA):
            try:
                found += await _ask(wire, qtype, host, int(port))
            except (OSError, FormError) as error:
                reason = str(error) if isinstance(error, FormError) else explain(error, "read")
                problem = f"lookup {name} on {resolver}: {reason}"
                if not found:
                    break
        if found:
            return found, ""
    return [], problem


async def _ask(name: bytes, qtype: int, host: str, port: int) -> list[str]:
    """Return the addresses in the reply of one resolver; raises OSError and FormError."""
    loop = asyncio.get_running_loop()
    address = as_ip(host) or host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    asked = draw_ident() + query(name, qtype)[2:]
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((address, port))
        async with asyncio.timeout(TIMEOUT):
            await loop.sock_sendall(sock, asked)
            while True:
                wire = await loop.sock_recv(sock, 4096)
                if wire[:2] == asked[:2] and wire[12 : len(asked)].lower() == asked[12:].lower():
                    return _read(Reply.from_wire(wire), qtype)


def _read(reply: Reply, qtype: int) -> list[str]:
    family = socket.AF_INET if qtype == TYPE_A else socket.AF_INET6
    return [
        socket.inet_ntop(family, reply.wire[rdata : rdata + length])
        for section, rtype, rclass, _, rdata, length, _, _ in walk(reply.wire)
        if section == ANSWER and rtype == qtype and rclass == CLASS_IN and length == _LENGTHS[qtype]
    ]
