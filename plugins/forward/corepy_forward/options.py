"""Parses the options in the block of a `forward` line (CoreDNS: setup.go, parseBlock)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corepy.dns import names
from corepy.dns.constants import NOERROR, RCODES
from corepy.plugin import parse_integer, parse_unsigned
from corepy_forward.policy import POLICIES
from corepy_forward.settings import HealthCheck, TLSFiles
from corepy_forward.targets import as_ip, parse_port, server_name, split_host_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Controller
    from corepy_forward.settings import Settings

_MAX_INT = 2**63 - 1
_MAX_UINT32 = 2**32 - 1


class Options:
    """Stores the options in the block of one line in its settings."""

    def __init__(self, controller: Controller, settings: Settings) -> None:
        self._c = controller
        self._settings = settings

    def table(self) -> dict[str, Callable[[], None]]:
        """Return the parsers by option name; each starts at the token of its option."""
        return {
            "except": self._except,
            "max_fails": lambda: self._number("max_fails", _MAX_UINT32),
            "max_connect_attempts": lambda: self._number("max_connect_attempts", _MAX_UINT32),
            "health_check": self._health_check,
            "force_tcp": lambda: self._flag("force_tcp"),
            "prefer_udp": lambda: self._flag("prefer_udp"),
            "tls": self._tls,
            "tls_servername": self._tls_servername,
            "expire": lambda: self._duration("expire"),
            "max_age": lambda: self._duration("max_age"),
            "max_idle_conns": lambda: self._number("max_idle_conns", _MAX_INT),
            "read_timeout": self._read_timeout,
            "doh_method": self._doh_method,
            "policy": self._policy,
            "max_concurrent": lambda: self._number("max_concurrent", _MAX_INT),
            "next": self._next,
            "next_on_nodata": lambda: self._flag("next_on_nodata"),
            "failfast_all_unhealthy_upstreams": lambda: self._flag("failfast"),
            "failover": self._failover,
            "resolver": self._resolver,
            "source_address": self._source_address,
            "cookies": self._cookies,
            "random_case": lambda: self._flag("random_case"),
        }

    def _argument(self) -> str:
        return self._c.next_argument().text

    def _flag(self, name: str) -> None:
        if self._c.next_arg():
            raise self._c.arg_error()
        setattr(self._settings, name, True)

    def _number(self, name: str, limit: int) -> None:
        text = self._argument()
        is_signed = limit == _MAX_INT
        if is_signed and (parse_integer(text) or 0) < 0:
            raise self._c.error(f"{name} can't be negative: {text}")
        number = parse_unsigned(text.removeprefix("+") if is_signed else text, limit)
        if number is None:
            raise self._c.error(f"{name}: invalid number {text!r}")
        setattr(self._settings, name, number)

    def _positive_seconds(self, name: str) -> float:
        seconds = self._c.duration(self._c.next_argument())
        if seconds < 0:
            raise self._c.error(f"{name} can't be negative: {self._c.val}")
        return seconds

    def _duration(self, name: str) -> None:
        setattr(self._settings, name, self._positive_seconds(name))

    def _read_timeout(self) -> None:
        seconds = self._c.duration(self._c.next_argument())
        if seconds <= 0:
            raise self._c.error(f"read_timeout must be positive: {self._c.val}")
        self._settings.read_timeout = seconds

    def _except(self) -> None:
        self._settings.ignored += self._c.zones_from(self._c.arguments(1))

    def _health_check(self) -> None:
        check = HealthCheck(interval=self._positive_seconds("health_check"))
        check.recursion_desired = self._settings.health.recursion_desired
        while self._c.next_arg():
            if self._c.val == "no_rec":
                check.recursion_desired = False
            elif self._c.val == "domain":
                check.domain = self._domain()
            else:
                raise self._c.error(f"health_check: unknown option {self._c.val}")
        self._settings.health = check

    def _domain(self) -> str:
        text = self._argument()
        try:
            return names.to_text(names.from_text(text).lower())
        except ValueError:
            raise self._c.error(f"health_check: invalid domain name {text}") from None

    def _tls(self) -> None:
        paths = [Path(token.text) for token in self._c.arguments(0, 3)]
        files = TLSFiles()
        if len(paths) == 1:
            files.ca = paths[0]
        elif paths:
            files.cert, files.key = paths[0], paths[1]
            files.ca = paths[2] if len(paths) == 3 else None
        self._settings.tls = files

    def _tls_servername(self) -> None:
        try:
            self._settings.tls_servername = server_name(self._argument())
        except ValueError as error:
            raise self._c.error(str(error)) from None

    def _doh_method(self) -> None:
        method = self._argument()
        if method not in ("POST", "GET"):
            raise self._c.error("doh_method must be either POST or GET")
        self._settings.doh_method = method

    def _policy(self) -> None:
        policy = self._argument()
        if policy not in POLICIES:
            raise self._c.error(
                f"unknown policy '{policy}'", None, f"known policies: {', '.join(POLICIES)}"
            )
        self._settings.policy = policy

    def _rcodes(self) -> frozenset[int]:
        tokens = self._c.arguments(1)
        for token in tokens:
            if token.text.upper() not in RCODES:
                raise self._c.error(f"{token.text} is not a valid rcode", token)
        return frozenset(RCODES[token.text.upper()] for token in tokens)

    def _next(self) -> None:
        self._settings.next_rcodes |= self._rcodes()

    def _failover(self) -> None:
        rcodes = self._rcodes()
        if NOERROR in rcodes:
            raise self._c.error("NoError cannot be used in failover")
        self._settings.failover_rcodes |= rcodes

    def _resolver(self) -> None:
        tokens = self._c.arguments(1)
        for token in tokens:
            split = split_host_port(token.text)
            host, port = split or (token.text, "53")
            try:
                parse_port(port)
                good = as_ip(host) is not None
            except ValueError:
                good = False
            if not good:
                raise self._c.error(
                    f'resolver must be an IP address or IP:port: "{token.text}"', token
                )
        self._settings.resolvers = [token.text for token in tokens]

    def _source_address(self) -> None:
        address = as_ip(self._argument())
        if address is None:
            raise self._c.error(f"invalid IP address: {self._c.val}")
        self._settings.source_address = address

    def _cookies(self) -> None:
        text = self._argument()
        if text not in ("on", "off"):
            raise self._c.error(f"cookies must be either on or off: {text}")
        self._settings.cookies = text == "on"
