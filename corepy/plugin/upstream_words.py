"""Reads the upstreams of a directive, as CoreDNS's external plugins do (parse.HostPortOrFile).

*forward* accepts more, such as host names, and reads its upstreams itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.corefile import parse_unsigned, split_transport
from corepy.dns.address import canonical
from corepy.plugin.reading import read_file
from corepy.plugin.resolv_conf import MOST_BYTES, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.corefile import Token
    from corepy.plugin.controller import Controller

PORTS: Final = {"dns": 53, "tls": 853, "quic": 853, "grpc": 443, "https": 443}
"""The default ports of schemes."""

_MOST_PORT: Final = 65535
_KEYWORD: Final = "nameserver"


class UpstreamWord(NamedTuple):
    """The address of an upstream, from a word or a file of the Corefile."""

    transport: str
    host: str
    """IP address, maybe with a zone (`fe80::1%eth0`)."""

    port: int

    @property
    def address(self) -> str:
        """The address and the port, such as "192.0.2.1:53" or "[2001:db8::1]:53"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """Return the text for a Corefile."""
        return f"{self.transport}://{self.address}"


def read_upstreams(
    controller: Controller, tokens: Sequence[Token]
) -> list[tuple[Token, UpstreamWord]]:
    """Return the upstreams in `tokens`: addresses, and files in the format of resolv.conf(5).

    As in CoreDNS, a file without name servers and a folder are left out, but with a warning. Raises
    `CorefileError` for a word that is neither, and if there is no upstream.
    """
    found = [(token, upstream) for token in tokens for upstream in _of_token(controller, token)]
    if not found:
        raise controller.error("no nameservers found", tokens[0])
    return found


def _of_token(controller: Controller, token: Token) -> list[UpstreamWord]:
    transport, rest = split_transport(token.text)
    if not rest:
        raise controller.error(f"invalid address: {token.text!r}", token)
    host, port = _host_and_port(rest)
    if canonical(host) is None:
        return _of_file(controller, token, Path(rest))
    number = PORTS.get(transport) if port is None else parse_unsigned(port, _MOST_PORT)
    if not number:
        problem = "no such transport" if port is None else "not a port number"
        raise controller.error(f"{problem}: {token.text!r}", token)
    return [UpstreamWord(transport, host, number)]


def _host_and_port(text: str) -> tuple[str, str | None]:
    """Return the parts of "host:port" or "[host]:port"; the port is None in other texts."""
    host, bracket, port = text.rpartition("]:")
    if bracket and host.startswith("["):
        return host[1:], port
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text.strip("[]"), None


def _of_file(controller: Controller, token: Token, path: Path) -> list[UpstreamWord]:
    if path.is_dir():
        controller.warn(f"{token.text!r} is a folder and has no name servers", token)
        return []
    try:
        content, _ = read_file(path, MOST_BYTES)
    except OSError as error:
        message = f"not an IP address or file: {token.text!r}: {error.strerror}"
        raise controller.error(message, token, "such as 192.0.2.1, or 192.0.2.1:5353") from None
    controller.watch_file(path.absolute())
    found = list(_name_servers(content))
    if not found:
        controller.warn(f"no name servers in {path}", token)
    return found


def _name_servers(content: bytes) -> Iterator[UpstreamWord]:
    for _, (keyword, *words) in read_lines(content):
        if keyword == _KEYWORD and words and canonical(words[0]) is not None:
            yield UpstreamWord("dns", words[0], PORTS["dns"])
