"""Parse the *trace* directive (CoreDNS: plugin/trace/setup.go)."""

from __future__ import annotations

import os
import re
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from corepy.plugin import ListenHosts, Mistakes, parse_boolean, parse_unsigned, suggest
from corepy_trace.handler import TRACE_ID, Trace
from corepy_trace.headers import from_environment, header_field
from corepy_trace.settings import (
    DEFAULT_BACKLOG,
    DEFAULT_BATCH,
    DEFAULT_INTERVAL,
    PLACES,
    Kind,
    LocalEndpoint,
    Settings,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.plugin import Controller, Token

_MOST_EVERY: Final = 2**64 - 1
_MANY_SPANS: Final = 100_000
_SPAN_SIZE: Final = 800
"""Bytes of memory, roughly."""

_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WITHOUT_EFFECT: Final = {"client_server": Kind.ZIPKIN, "datadog_analytics_rate": Kind.DATADOG}
"""Options that one kind of collector uses."""


def setup(controller: Controller) -> None:
    """Add one handler; a later *trace* of the block changes the endpoint and adds options."""
    kind = Kind.ZIPKIN
    settings = Settings(kind, target_of(kind, ""), _local_endpoint(controller))
    mistakes = Mistakes()
    used: dict[str, Token] = {}
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            with mistakes:
                _endpoint(controller, settings)
            controller.options(_options(controller, settings, used))
    mistakes.settle()
    if settings.kind is Kind.OTLP:
        _add_environment(controller, settings)
    for option, token in used.items():
        of_kind = _WITHOUT_EFFECT.get(option, settings.kind)
        if of_kind is not settings.kind:
            message = f"{option} has no effect with {settings.kind.value}"
            controller.warn(message, token, f"it is an option for {of_kind.value}")
    controller.provides_labels([TRACE_ID], needs_metadata=False)
    controller.add_handler(Trace(settings))


def _local_endpoint(controller: Controller) -> LocalEndpoint:
    """Return the first listen address of the block, as CoreDNS does."""
    host = controller.config.get(ListenHosts).hosts[0].partition("%")[0]
    if not host or ip_address(host).is_unspecified:
        return LocalEndpoint("", controller.config.port)
    return LocalEndpoint(host, controller.config.port)


def _endpoint(controller: Controller, settings: Settings) -> None:
    """Parse `[KIND] [ENDPOINT]`; a single argument is the endpoint of a zipkin collector."""
    arguments = controller.arguments(0, 2)
    settings.kind = _kind(controller, arguments[0]) if len(arguments) == 2 else Kind.ZIPKIN
    kind, token = settings.kind, arguments[-1] if arguments else None
    try:
        settings.target = target_of(kind, "" if token is None else token.text)
    except ValueError as error:
        assert token is not None
        hint = f"such as {PLACES[kind].default} or http://{PLACES[kind].default}{PLACES[kind].path}"
        raise controller.error(f"{token.text!r} is not an endpoint: {error}", token, hint) from None
    if token is not None:
        _warn_of_endpoint(controller, settings, token, alone=len(arguments) == 1)


def _kind(controller: Controller, token: Token) -> Kind:
    try:
        return Kind(token.text.lower())
    except ValueError:
        known = [kind.value for kind in Kind]
        near = suggest(token.text.lower(), known)
        hint = f"did you mean {near!r}?" if near else f"known types: {', '.join(known)}"
        message = f"tracing endpoint type {token.text!r} is not supported"
        raise controller.error(message, token, hint) from None


def _warn_of_endpoint(
    controller: Controller, settings: Settings, token: Token, *, alone: bool
) -> None:
    """Warn about an endpoint that is probably meant otherwise."""
    kinds = {kind.value: kind for kind in Kind}
    meant = kinds.get(token.text.lower())
    if alone and meant is not None:
        message = f"{token.text!r} is taken as the host of a zipkin collector"
        hint = f"write trace {meant.value} {PLACES[meant].default}"
        controller.warn(message, token, hint)
    elif settings.kind is Kind.ZIPKIN and settings.target.path in ("", "/"):
        message = "the URL has no path, and zipkin takes no spans there"
        hint = f"write {token.text.rstrip('/')}{PLACES[Kind.ZIPKIN].path}"
        controller.warn(message, token, hint)


def _options(
    controller: Controller, settings: Settings, used: dict[str, Token]
) -> Mapping[str, Callable[[], None]]:
    def read(option: str) -> None:
        assert controller.token is not None
        used[option] = controller.token
        attribute, reader = _READERS[option]
        setattr(settings, attribute, reader(controller))

    options = {option: partial(read, option) for option in _READERS}
    return {**options, "header": lambda: _header(controller, settings)}


def _add_environment(controller: Controller, settings: Settings) -> None:
    """Add the header fields of the environment, except those that the Corefile sets."""
    found, problems = from_environment(os.environ)
    for problem in problems:
        controller.warn(problem, hint="such as NAME=VALUE,NAME=VALUE with percent-encoded values")
    known = {field.name.lower() for field in settings.headers}
    if settings.target.authorization:
        known.add("authorization")
    settings.headers += [field for field in found if field.name.lower() not in known]


def _header(controller: Controller, settings: Settings) -> None:
    """`header NAME VALUE`; a later one of the same name replaces the value."""
    name, value = controller.arguments(2, 2)
    try:
        field = header_field(name.text, value.text)
    except ValueError as error:
        hint = 'such as header Authorization "Bearer TOKEN"'
        raise controller.error(str(error), name, hint) from None
    if field.name.lower() == "authorization" and settings.target.authorization:
        hint = "remove user name and password from the URL, or this option"
        raise controller.error("the URL sets Authorization, too", name, hint)
    others = [it for it in settings.headers if it.name.lower() != field.name.lower()]
    settings.headers = [*others, field]


def _every(controller: Controller) -> int:
    token = controller.argument()
    number = parse_unsigned(token.text, _MOST_EVERY)
    if number is None:
        hint = "1 traces each query, 100 one of 100 queries"
        raise controller.error(f"not a whole number: {token.text!r}", token, hint)
    if not number:
        controller.warn("every 0 traces no query", token)
    return number


def _boolean(controller: Controller) -> bool:
    for token in controller.arguments(0, 1):
        value = parse_boolean(token.text)
        if value is None:
            raise controller.error(f"not a boolean: {token.text!r}", token, "true or false")
        return value
    return True


def _rate(controller: Controller) -> float:
    for token in controller.arguments(0, 1):
        if not _FLOAT.fullmatch(token.text):
            raise controller.error(f"not a number: {token.text!r}", token, "such as 0.1")
        rate = float(token.text)
        if not 0 <= rate <= 1:
            message = f"datadog analytics rate must be between 0 and 1, not {token.text!r}"
            raise controller.error(message, token)
        return rate
    return 0.0


def _spans(controller: Controller) -> int:
    token = controller.argument()
    number = controller.integer(token)
    if number < 0:
        raise controller.error(f"negative number of spans {token.text!r}", token)
    if number > _MANY_SPANS:
        megabytes = number * _SPAN_SIZE // 1_000_000
        message = f"{token.text} spans use up to {megabytes} MB of memory"
        controller.warn(message, token, "spans that wait are lost at the end of the process anyway")
    return number


def _interval(controller: Controller) -> float:
    token = controller.argument()
    seconds = controller.duration(token)
    if seconds < 0:
        raise controller.error(f"negative duration {token.text!r}", token, "such as 1s")
    return seconds


_READERS: Final[dict[str, tuple[str, Callable[[Controller], object]]]] = {
    "every": ("every", _every),
    "service": ("service", lambda controller: controller.argument().text),
    "client_server": ("client_server", _boolean),
    "datadog_analytics_rate": ("analytics_rate", _rate),
    "zipkin_max_backlog_size": ("backlog", lambda it: _spans(it) or DEFAULT_BACKLOG),
    "zipkin_max_batch_size": ("batch", lambda it: _spans(it) or DEFAULT_BATCH),
    "zipkin_max_batch_interval": ("interval", lambda it: _interval(it) or DEFAULT_INTERVAL),
}
"""The attribute of `Settings` that each option sets, and its reader; 0 is the default."""
