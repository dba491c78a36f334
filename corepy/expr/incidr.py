"""The function `incidr`: whether an address is in a network (CoreDNS: plugin/pkg/expression)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.dns.address import address_bytes, packed
from corepy.expr.expr_environment import Compiled, Function, Warn
from corepy.expr.expr_values import as_text
from corepy.expr.frame import Evaluate, ExpressionError, Frame

if TYPE_CHECKING:
    from corepy.dns import Request

_IPV4_BITS: Final = 32
_IPV6_BITS: Final = 128
_MAPPED: Final = bytes(10) + b"\xff\xff"
_MAPPED_BITS: Final = 96
_SOCKADDR_IN: Final = 16
_LONGEST_PREFIX: Final = 3
"""Digits of a prefix length."""


class Network(NamedTuple):
    """The addresses from one to another, in network byte order."""

    first: bytes
    last: bytes

    def contains(self, address: bytes) -> bool:
        """Return whether an address in network byte order is in the network."""
        return len(address) == len(self.first) and self.first <= address <= self.last


def read_network(text: str) -> Network:
    """Return the network for an address with a prefix length; raises ValueError.

    As Go's net.ParseCIDR: host bits are ignored, and numbers of IPv4 have no leading zeros. A
    network of IPv4-mapped addresses is an IPv4 network.
    """
    host, slash, digits = text.partition("/")
    is_ipv6 = ":" in host
    bits = _IPV6_BITS if is_ipv6 else _IPV4_BITS
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_PREFIX
    address = packed(host)
    if not slash or not is_number or int(digits) > bits or address is None or "%" in host:
        raise ValueError(f"{text!r} is not a network, such as 192.0.2.0/24 or 2001:db8::/32")
    length = int(digits)
    if is_ipv6 and length >= _MAPPED_BITS and address.startswith(_MAPPED):
        address, bits, length = address[12:], _IPV4_BITS, length - _MAPPED_BITS
    hosts = (1 << bits - length) - 1
    last = int.from_bytes(address, "big") | hosts
    return Network((last - hosts).to_bytes(bits // 8, "big"), last.to_bytes(bits // 8, "big"))


@lru_cache(maxsize=1024)
def _network(text: str) -> Network:
    """Return a network that is not constant, such as an element of an array."""
    try:
        return read_network(text)
    except ValueError as error:
        raise ExpressionError(f"incidr: {error}") from None


def is_in(subject: object, address: str, network: str) -> bool:
    """Return whether an address is in a network; raises ExpressionError."""
    return _network(network).contains(_address(address))


def _address(text: object) -> bytes:
    """Return an address as bytes, that of an IPv4-mapped one as IPv4; raises ExpressionError.

    Unlike in CoreDNS, the interface of a link-local address (`fe80::1%eth0`) is ignored.
    """
    host = as_text(text, "incidr")
    address = packed(host.partition("%")[0])
    if address is None:
        raise ExpressionError(f"incidr: {host[:80]!r} is not an IP address")
    return address[12:] if address.startswith(_MAPPED) and len(address) > 4 else address


def prepare(
    arguments: Sequence[Compiled],
    warn: Warn,
    client_ip: Function,
    request_of: Callable[[Any], Request] | None,
) -> Evaluate | None:
    """Return `incidr` without the text of the client's address and of a constant network.

    None if neither is an argument. `client_ip` is the function that returns that address.
    """
    address, network = arguments
    if address.is_constant and type(address.value) is str and packed(address.value) is None:
        warn(f"{address.value!r} is not an IP address, so the expression fails", 0)
    known: Network | None = None
    if network.is_constant and type(network.value) is str:
        try:
            known = read_network(network.value)
        except ValueError as error:
            warn(f"{error}, so the expression fails", 1)
            return None
    if address.function is client_ip:
        if known is not None:
            return _known_client(request_of, known)
        text, get = network.run, request_of or _itself
        return lambda frame: _has(
            _network(as_text(text(frame), "incidr")), get(frame.subject).client
        )
    if known is None:
        return None
    run, here = address.run, known
    return lambda frame: here.contains(_address(run(frame)))


def _itself(request: Any) -> Any:
    return request


def _known_client(request_of: Callable[[Any], Request] | None, network: Network) -> Evaluate:
    """Return whether the client is in a network that is constant."""
    first, last = network
    is_ipv4 = len(first) == 4

    def evaluate(frame: Frame) -> bool:
        subject = frame.subject
        client = (subject if request_of is None else request_of(subject)).client
        # Most clients have a raw IPv4 address; this saves two calls for them.
        if type(client) is bytes and len(client) == _SOCKADDR_IN:
            return is_ipv4 and first <= client[4:8] <= last
        return _has(network, client)

    return evaluate


def _has(network: Network, client: object) -> bool:
    address = address_bytes(client)
    if not address:
        raise ExpressionError("incidr: the client has no IP address")
    return network.contains(address)
