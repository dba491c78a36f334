"""The functions that describe a query (CoreDNS: plugin/pkg/expression)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.dns.address import address_bytes, packed
from corepy.expr.expr_environment import Compiled, Function, Warn
from corepy.expr.frame import Evaluate, ExpressionError
from corepy.expr.value_types import BOOL, INT, STRING, Type
from corepy.plugin.handler import Cacheability

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
    """The addresses that begin with some bits."""

    length: int
    """Bytes of an address of the family."""

    shift: int
    prefix: int
    """The bits before the last `shift` ones, as a number."""

    def contains(self, address: bytes) -> bool:
        """Return whether an address in network byte order is in the network."""
        return (
            len(address) == self.length
            and int.from_bytes(address, "big") >> self.shift == self.prefix
        )


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
    shift = bits - length
    return Network(bits // 8, shift, int.from_bytes(address, "big") >> shift)


def _incidr(subject: object, address: str, network: str) -> bool:
    try:
        return read_network(network).contains(_address(address))
    except ValueError as error:
        raise ExpressionError(f"incidr: {error}") from None


def _address(text: str) -> bytes:
    """Return an address as bytes, that of an IPv4-mapped one as IPv4; raises ExpressionError.

    Unlike in CoreDNS, the interface of a link-local address (`fe80::1%eth0`) is ignored.
    """
    address = packed(text.partition("%")[0])
    if address is None:
        raise ExpressionError(f"incidr: {text[:80]!r} is not an IP address")
    return address[12:] if address.startswith(_MAPPED) and len(address) > 4 else address


def _prepare_incidr(
    arguments: Sequence[Compiled], warn: Warn, request_of: Callable[[Any], Request] | None
) -> Evaluate | None:
    """Return `incidr` for a constant network, which needs no text if it is about the client."""
    address, network = arguments
    if address.is_constant and type(address.value) is str and packed(address.value) is None:
        warn(f"{address.value!r} is not an IP address, so the expression fails", 0)
    if not network.is_constant or type(network.value) is not str:
        return None
    try:
        known = read_network(network.value)
    except ValueError as error:
        warn(f"{error}, so the expression fails", 1)
        return None
    size, shift, prefix = known
    if address.function is None or address.function.name != "client_ip":
        run = address.run
        return lambda frame: known.contains(_address(run(frame)))

    if request_of is not None:
        get = request_of
        return lambda frame: _is_in(get(frame.subject).client, size, shift, prefix)
    return lambda frame: _is_in(frame.subject.client, size, shift, prefix)


def _is_in(client: object, size: int, shift: int, prefix: int) -> bool:
    """Return whether a client is in a network; raises ExpressionError."""
    # Most clients have a raw IPv4 address; this saves a call for them.
    if type(client) is bytes and len(client) == _SOCKADDR_IN:
        return size == 4 and int.from_bytes(client[4:8], "big") >> shift == prefix
    address = address_bytes(client)
    if not address:
        raise ExpressionError("incidr: the client has no IP address")
    return len(address) == size and int.from_bytes(address, "big") >> shift == prefix


def _metadata(request: Request, label: str) -> str:
    return str(request.metadata.get(label, ""))


_ABOUT_A_QUERY: Final[tuple[tuple[str, Type, Callable[[Request], Any], Cacheability], ...]] = (
    ("bufsize", INT, attrgetter("size"), Cacheability.SAFE),
    ("class", STRING, attrgetter("class_"), Cacheability.SAFE),
    ("client_ip", STRING, lambda request: request.remote[0], Cacheability.UNSAFE),
    ("do", BOOL, attrgetter("do"), Cacheability.SAFE),
    ("id", INT, attrgetter("id"), Cacheability.UNSAFE),
    ("name", STRING, attrgetter("name"), Cacheability.SAFE),
    ("opcode", INT, attrgetter("opcode"), Cacheability.SAFE),
    ("port", STRING, lambda request: str(request.remote[1]), Cacheability.UNSAFE),
    ("proto", STRING, attrgetter("context.network"), Cacheability.SAFE),
    (
        "server_ip", STRING, lambda request: request.local_address[0],
        Cacheability.DEPENDS_ON_LOCAL_ADDRESS,
    ),
    ("server_port", STRING, lambda request: str(request.local_address[1]), Cacheability.SAFE),
    ("size", INT, lambda request: len(request.wire), Cacheability.SAFE),
    ("type", STRING, attrgetter("type"), Cacheability.SAFE),
)  # fmt: skip
"""The functions without arguments: type, value, and what the value depends on.

The packet cache belongs to a socket, so the transport and the port of the server may differ; the ID
is not in its key.
"""


def query_functions(request_of: Callable[[Any], Request] | None = None) -> Iterable[Function]:
    """Yield the functions that describe a query, and `incidr` and `metadata`.

    The subject of the evaluation is a `Request`, or `request_of` returns the one of a subject.
    """
    for name, type_, get, depends in _ABOUT_A_QUERY:
        yield Function(name, (), type_, _of_request(get, request_of), depends)
    yield Function(
        "incidr", (STRING, STRING), BOOL, _incidr,
        prepare=lambda arguments, warn: _prepare_incidr(arguments, warn, request_of),
    )  # fmt: skip
    yield Function(
        "metadata", (STRING,), STRING, _of_request(_metadata, request_of),
        Cacheability.UNSAFE, is_short=False,
    )  # fmt: skip


def _of_request(
    get: Callable[..., Any], request_of: Callable[[Any], Request] | None
) -> Callable[..., Any]:
    if request_of is None:
        return get
    return lambda subject, *arguments: get(request_of(subject), *arguments)
