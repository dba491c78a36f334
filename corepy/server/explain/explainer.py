"""Explains one question: the block that answers it, why, and each plugin's part in the reply.

`explain` works on any routers: those of a running server (`explain_live`, through its control
socket), or those of a generation built only for this purpose (`rehearse`, for
`corepy explain -conf`). The result is plain data that JSON can represent.

The question passes through copies of the live handlers (see `trace`). In a running server it counts
in metrics, is logged and fills caches like any other query; its metadata has the label
`corepy/explain`. It bypasses the packet cache.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from corepy.dns import Reply, Request, RequestContext, finish
from corepy.dns import constants as c
from corepy.dns.edns import UDP_SIZE, Edns
from corepy.dns.form_error import FormError
from corepy.dns.message import query
from corepy.dns.names import InvalidName, from_text
from corepy.dns.survey import strip_opt
from corepy.dns.text import flag_names, option_texts, records_of, shortened, to_dig
from corepy.net.sockets import family_of
from corepy.plugin import CommandError, LifecycleContext, handlers_below
from corepy.plugin.handler import REFUSED, SERVFAIL
from corepy.server.explain.choice import Choice, candidates, reason
from corepy.server.explain.trace import Trace
from corepy.server.listen import transports
from corepy.server.listen.packet_cache import SWITCH, is_enabled, why_not
from corepy.server.listen.router import RoutingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.plugin import Handler
    from corepy.server.build.generation import Generation
    from corepy.server.listen.router import Router, ZoneRoute
    from corepy.server.server import Server

LABEL: Final = "corepy/explain"
"""Metadata label of an explained question, for log formats."""

MOST_TIMES: Final = 10
_DROPPED: Final = ";; no reply: a plugin dropped the query\n"
_SERIES: Final = ";; the reply is a series of messages, which is made only for a client\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """The question to explain."""

    name: str
    type: str = "A"
    class_: str = "IN"
    client: str = ""
    """IP address; empty for the loopback address of the server's address family."""

    protocol: str = "udp"
    """"udp" or "tcp"; a server with one socket per address is asked at that one."""

    edns: int = UDP_SIZE
    """UDP size to announce, in bytes; 0 for a query without EDNS."""

    do: bool = False
    at: str = ""
    """The server to query: IP, IP:PORT or a whole label."""

    times: int = 1
    """How often to ask; the last time is explained."""

    @classmethod
    def of(cls, argument: Any) -> Asked:
        """Return the question in a command's argument; raises `CommandError`."""
        known = {field.name: field.type for field in fields(cls)}
        if not isinstance(argument, dict) or not {"name"} <= argument.keys() <= known.keys():
            raise CommandError("explain takes an object with the name to explain")
        kinds = {"str": str, "int": int, "bool": bool}
        for key, value in argument.items():
            if type(value) is not kinds[str(known[key])]:
                raise CommandError(f"explain: {key} must be {known[key]}")
        asked = cls(**argument)
        asked.check()
        return asked

    def check(self) -> None:
        """Raise `CommandError` for invalid values."""
        self.wire()
        if self.client:
            _address(self.client)
        if self.protocol not in ("udp", "tcp"):
            raise CommandError(f"protocol {self.protocol!r} is neither udp nor tcp")
        if not 1 <= self.times <= MOST_TIMES:
            raise CommandError(f"a question can be asked 1 to {MOST_TIMES} times")

    def wire(self) -> bytes:
        """Return the query message; raises `CommandError`."""
        try:
            name, qclass = from_text(self.name), c.class_number(self.class_)
        except (InvalidName, ValueError) as error:
            raise CommandError(str(error)) from None
        try:
            qtype = c.type_number(self.type)
        except ValueError as error:
            raise CommandError(f"{error}; the arguments are NAME [TYPE [CLIENT]]") from None
        if not 0 <= self.edns <= c.MAX_SIZE:
            raise CommandError(f"EDNS size {self.edns} is outside 0 to {c.MAX_SIZE}")
        edns = Edns(self.edns or UDP_SIZE, self.do) if self.edns or self.do else None
        return query(name, qtype, qclass, edns=edns)

    def request(self, label: str) -> Request:
        """Return the query as the server `label` receives it; raises `CommandError`."""
        host = label.partition("://")[2].rpartition(":")[0].strip("[]")
        local = host if host else ("::1" if ":" in self.client else "127.0.0.1")
        client = self.client or ("::1" if ":" in local else "127.0.0.1")
        request = Request.from_wire(self.wire())
        request.received = time.monotonic()
        request.peer = request.client = (client, 53535)
        request.local = (local, 53)
        transport = transports.get(label.partition("://")[0])
        request.context = RequestContext(
            transport.protocol(self.protocol),
            self.protocol,
            label,
            family=family_of(host),
            takes_series=transport.takes_series(self.protocol),
        )
        request.metadata = {LABEL: "true"}
        return request


def _address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        hint = f"; to ask in this class, use -class {text}" if text.upper() in c.CLASSES else ""
        raise CommandError(f"{text!r} is not an IP address of a client{hint}") from None


async def explain_live(server: Server, argument: Any) -> dict[str, Any]:
    """Return a running server's explanation of a question; raises `CommandError`."""
    asked = Asked.of(argument)
    generation = server.generation
    if generation is None:
        raise CommandError("the server is not serving")
    endpoints = {server.endpoints[listen].label: listen for listen in generation.routers}
    routers = {label: generation.routers[listen] for label, listen in endpoints.items()}
    explanation, label = await explain(routers, asked)
    endpoint = server.endpoints[endpoints[label]]
    packets = endpoint.listener(asked.protocol).pipeline.packets
    held = packets.view(asked.wire(), time.monotonic())
    if explanation["packet_cache"] is not None and held is not None:
        explanation["packet_cache"]["holds"] = {"seconds left": held[1]}
    return explanation


async def rehearse(generation: Generation, asked: Asked, *, offline: bool) -> dict[str, Any]:
    """Return the explanation of a question by a generation that is never started.

    With `offline` no query is sent to other servers. Raises `CommandError`, and `StartupError` if
    the server would not start.
    """
    routers = {listen.label(): router for listen, router in generation.routers.items()}
    context = LifecycleContext(
        generation.plugins,
        _no_reload,
        lambda: None,
        generation.files,
        offline=offline,
        addresses=list(routers),
    )
    try:
        await generation.start_hooks("rehearse", context)
        explanation, _ = await explain(routers, asked, offline=offline)
        return explanation
    finally:
        await generation.stop_hooks("shutdown", context, after="rehearse")


async def _no_reload(_reason: str) -> bool:
    return False


async def explain(
    routers: Mapping[str, Router], asked: Asked, *, offline: bool = False
) -> tuple[dict[str, Any], str]:
    """Return the explanation, and the label of the server that was chosen from `routers`."""
    label = _choose(routers, asked)
    router = routers[label]
    request = asked.request(label)
    for _ in range(asked.times - 1):
        earlier = asked.request(label)
        await _answer(router, earlier, _route(router, earlier))
    trace = Trace(offline=offline)
    watched = trace.router(router)
    choice = Choice.of(watched, request)
    route = choice.route
    reply = choice.failure or await _answer(watched, request, route)
    is_message = not reply.is_dropped and reply.series is None
    sent = finish(request, reply) if is_message else b""
    # Formatting a message can take seconds, and must not block the event loop.
    steps = await asyncio.to_thread(lambda: [step.as_dict() for step in trace.steps])
    shown = await asyncio.to_thread(_reply, reply, sent)
    return {
        "question": _question(asked, request),
        "server": label,
        "elsewhere": _elsewhere(routers, label, asked, route),
        "block": None if route is None else _block(router, route),
        "reason": reason(router, choice, request),
        "candidates": candidates(watched, choice, request),
        "steps": steps + _not_asked(route, trace),
        "packet_cache": _packet_cache(route, request, reply, sent),
        "seconds": sum(step.seconds for step in trace.steps if step.ended),
        "reply": shown,
    }, label


def _question(asked: Asked, request: Request) -> dict[str, Any]:
    return {
        "name": request.qname,
        "type": request.type,
        "class": request.class_,
        "client": request.remote[0],
        "protocol": request.context.protocol,
        "edns": asked.edns,
        "do": asked.do,
        "times": asked.times,
    }


def _choose(routers: Mapping[str, Router], asked: Asked) -> str:
    """Return the server to query: the one that was named, otherwise the one that fits best."""
    fitting = [label for label in routers if _is_at(label, asked.at)]
    if not fitting:
        if not routers:
            raise CommandError("no server block has an address to listen on")
        raise CommandError(f"no server at {asked.at!r}; there is {', '.join(routers)}")

    def fit(label: str) -> int:
        route = _route(routers[label], asked.request(label))
        return -1 if route is None else len(from_text(route.zone))

    return max(fitting, key=fit)


def _is_at(label: str, at: str) -> bool:
    address = label.partition("://")[2]
    host, _, port = address.rpartition(":")
    return not at or at in (label, address, host, host.strip("[]"), f":{port}")


def _route(router: Router, request: Request) -> ZoneRoute | None:
    """Return the route for `request`; None if no block answers it or a filter fails."""
    try:
        return router.route(request)
    except RoutingError:
        return None


async def _answer(router: Router, request: Request, route: ZoneRoute | None) -> Reply:
    """Return a server's reply, as `corepy.server.listen.pipeline` makes it."""
    if route is None:
        return request.error(REFUSED)
    request.context = replace(
        request.context, zone=route.zone, view=route.filters.view, router=router, route=route
    )
    task = asyncio.current_task()
    try:
        return await route.serve(request)
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            raise  # this task itself is cancelled
        return request.error(SERVFAIL)


def _block(router: Router, route: ZoneRoute) -> dict[str, Any]:
    in_chain = [handler.name for handler in _handlers(route)]
    zones = [it.zone for it in router.routes if it.position == route.position]
    beside = [name for name in route.directives if name not in in_chain]
    return {
        "zone": route.zone, "zones": zones, "place": route.position, "view": route.filters.view,
        "chain": in_chain, "beside": beside,
    }  # fmt: skip


def _handlers(route: ZoneRoute) -> list[Handler]:
    """Return the handlers of a chain that belong to a directive, from the first on."""
    return [] if route.chain is None else [route.chain, *handlers_below(route.chain)]


def _elsewhere(
    routers: Mapping[str, Router], label: str, asked: Asked, route: ZoneRoute | None
) -> list[dict[str, str | None]]:
    """Return the other servers at which another block than that of `route` answers."""
    position = None if route is None else route.position
    other = {
        each: _route(router, asked.request(each))
        for each, router in routers.items()
        if each != label
    }
    return [
        {
            "server": each,
            "zone": None if it is None else it.zone,
            "place": None if it is None else it.position,
        }
        for each, it in other.items()
        if (it.position if it else None) != position
    ]


def _not_asked(route: ZoneRoute | None, trace: Trace) -> list[dict[str, Any]]:
    """Return a step for each handler of the chain that the question did not reach."""
    asked = [id(step.handler) for step in trace.steps]
    return [
        {"plugin": handler.name, "depth": 0, "did": "not asked", "seconds": None}
        for handler in (_handlers(route) if route else ())
        if id(handler) not in asked
    ]


def _packet_cache(
    route: ZoneRoute | None, request: Request, reply: Reply, sent: bytes
) -> dict[str, Any] | None:
    """Return whether the packet cache would store this reply, and if not, why."""
    if route is None or route.chain is None:
        return None
    if not is_enabled():
        why: str | None = f"it is disabled (environment variable {SWITCH})"
    elif route.obstacle == "":
        why = "nothing in this block is cached"
    elif route.obstacle is not None:
        why = f"the effect of {route.obstacle} depends on more than the query"
    elif reply.is_dropped:
        why = "a plugin dropped the query, so there is no reply to store"
    elif reply.series is not None:
        why = "it is a series of messages"
    else:
        why = why_not(request, reply, sent)
    kept: dict[str, Any] = {
        "obstacle": route.obstacle or None,
        "admitted": why is None,
        "reason": why,
    }
    if why is None and reply.deadline is not None:
        kept["seconds"] = reply.deadline - request.received
    return kept


def _reply(reply: Reply, sent: bytes) -> dict[str, Any]:
    """Return the reply that the client gets; it is empty if the query was dropped."""
    text, records, edns = "", {}, None
    if reply.is_dropped:
        return {"dropped": True, "error": reply.error, "size": 0, "text": _DROPPED}
    if reply.series is not None:
        return {
            "dropped": False, "series": True, "error": reply.error, "size": 0, "text": _SERIES
        }  # fmt: skip
    try:
        _, edns, _ = strip_opt(sent)
        records, text = records_of(shortened(sent)), to_dig(sent)
    except FormError as error:
        text = f";; the message cannot be shown: {error}\n"
    return {
        "dropped": False,
        "rcode": c.rcode_name(sent[3] & 15 | (edns.extended_rcode << 4 if edns else 0)),
        "flags": flag_names(int.from_bytes(sent[2:4], "big")),
        **{section: [it._asdict() for it in each] for section, each in records.items()},
        "edns": option_texts(edns.options) if edns else [],
        "error": reply.error,
        "size": len(sent),
        "text": text,
    }
