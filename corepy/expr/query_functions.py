"""The functions that describe a query (CoreDNS: plugin/pkg/expression)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from corepy.expr.expr_environment import Function
from corepy.expr.incidr import is_in, prepare
from corepy.expr.query_values import IMPOSSIBLE
from corepy.expr.value_types import BOOL, INT, STRING, Type
from corepy.plugin.handler import Cacheability

if TYPE_CHECKING:
    from corepy.dns import Request


def _metadata(request: Request, label: str) -> str:
    return str(request.metadata.get(label, ""))


_OF_QUESTION: Final = frozenset(("class", "name", "type"))

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
"""The functions without arguments: type, value, and the inputs of the value.

The packet cache belongs to a socket, so the transport and the port of the server may differ; the ID
is not in its key.
"""


def query_functions(request_of: Callable[[Any], Request] | None = None) -> Iterable[Function]:
    """Yield the functions that describe a query, and `incidr` and `metadata`.

    The subject of the evaluation is a `Request`, or `request_of` returns the one of a subject.
    """
    functions = {
        name: Function(
            name, (), type_, _of_request(get, request_of), depends, name in _OF_QUESTION,
            impossible=IMPOSSIBLE.get(name),
        )
        for name, type_, get, depends in _ABOUT_A_QUERY
    }  # fmt: skip
    yield from functions.values()
    client_ip = functions["client_ip"]
    yield Function(
        "incidr",
        (STRING, STRING),
        BOOL,
        is_in,
        is_about_question=True,
        argument_names=("ADDRESS", "NETWORK"),
        prepare=lambda arguments, warn: prepare(arguments, warn, client_ip, request_of),
    )
    yield Function(
        "metadata", (STRING,), STRING, _of_request(_metadata, request_of),
        Cacheability.UNSAFE, is_short=False, reads_label=True, argument_names=("LABEL",),
    )  # fmt: skip


def _of_request(
    get: Callable[..., Any], request_of: Callable[[Any], Request] | None
) -> Callable[..., Any]:
    if request_of is None:
        return get
    return lambda subject, *arguments: get(request_of(subject), *arguments)
