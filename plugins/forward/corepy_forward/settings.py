"""The settings of one `forward` line, the policies, and the parser of the options in its block.

The defaults are CoreDNS's (forward.go, New; policy.go; setup.go, parseBlock).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from corepy.dns import names
from corepy.dns.constants import NOERROR, RCODES
from corepy.plugin import parse_integer, parse_unsigned
from corepy.plugin.tls_client import TLSFiles
from corepy_forward.targets import as_ip, parse_port, server_name, split_host_port
from corepy_forward.validation.validation_settings import ValidationSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.plugin import Controller
    from corepy_forward.quic_trust import TLSContext
    from corepy_forward.targets import ToAddress
    from corepy_forward.validation.anchors import TrustAnchors
    from corepy_forward.validation.options import ValidationOptions

MAX_TARGETS = 15
"""Maximum number of TOs in one line (setup.go)."""

_BLOCK = 512
_T = TypeVar("_T")
_MAX_INT = 2**63 - 1
_MAX_UINT32 = 2**32 - 1


@dataclass(slots=True)
class HealthCheckOptions:
    """The option `health_check`."""

    interval: float = 0.5
    """Seconds between two probes to an upstream that does not answer."""

    recursion_desired: bool = True
    domain: str = "."
    """The QNAME of probes, whose type is NS."""


@dataclass(slots=True)
class Settings:
    """All options of one line; durations are in seconds."""

    zone: str = "."
    """FROM, normalised."""

    entries: list[ToAddress] = field(default_factory=list)
    """TO, in the order of the line."""

    ignored: list[str] = field(default_factory=list)
    """`except`, normalised."""

    force_tcp: bool = False
    prefer_udp: bool = False
    max_fails: int = 2
    max_connect_attempts: int | None = None
    """None: the default, which depends on the number of upstreams; 0: unlimited."""

    expire: float = 10.0
    max_age: float | None = None
    """None: the default of corepy (`streams.MAX_AGE`); 0: unlimited."""

    max_idle_conns: int = 0
    read_timeout: float = 2.0
    policy: str = "random"
    health: HealthCheckOptions = field(default_factory=HealthCheckOptions)
    max_concurrent: int = 0
    next_rcodes: frozenset[int] = frozenset()
    next_on_nodata: bool = False
    failfast: bool = False
    failover_rcodes: frozenset[int] = frozenset()
    source_address: str = ""
    cookies: bool = True
    """Whether queries over UDP have DNS cookies."""

    random_case: bool = False
    """Whether names are sent in random letter case over UDP."""

    resolvers: list[str] = field(default_factory=list)
    """Resolvers for host names in TO, each IP[:PORT]; empty: the system's resolver."""

    doh_method: str = "POST"
    tls: TLSFiles = field(default_factory=TLSFiles)
    tls_servername: str = ""
    ddr: str = ""
    """Whether plain upstreams may designate encrypted ones: "", "verified" or "opportunistic"."""

    tls_contexts: dict[str, TLSContext] = field(default_factory=dict)
    """TLS contexts by transport in TO; created in setup, which thereby detects invalid files."""

    validation: ValidationSettings = field(default_factory=ValidationSettings)
    trust_anchors: TrustAnchors | None = None
    """The trust anchors for validation, None without `dnssec validate`; created in setup."""


class Policy(Protocol):
    """Chooses one of the healthy upstreams."""

    def __call__(self, upstreams: Sequence[_T]) -> _T:
        """Return one of `upstreams`, a non-empty sequence in the order of the Corefile."""


class Random:
    """Chooses at random, with equal probabilities."""

    def __init__(self) -> None:
        self._dice: list[int] = []

    def __call__(self, upstreams: Sequence[_T]) -> _T:
        """Return a random upstream."""
        count = len(upstreams)
        if count == 1:
            return upstreams[0]
        if not self._dice:
            self._dice = memoryview(os.urandom(4 * _BLOCK)).cast("I").tolist()
        return upstreams[self._dice.pop() % count]


class RoundRobin:
    """Chooses the upstreams in turn."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, upstreams: Sequence[_T]) -> _T:
        """Return the next upstream."""
        self._turn += 1
        return upstreams[self._turn % len(upstreams)]


class Sequential:
    """Always chooses the first healthy upstream."""

    def __call__(self, upstreams: Sequence[_T]) -> _T:
        """Return the first upstream."""
        return upstreams[0]


POLICIES: dict[str, type[Random | RoundRobin | Sequential]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "sequential": Sequential,
}


def make_policy(name: str) -> Policy:
    """Return a new policy, by its name in the Corefile."""
    return POLICIES[name]()


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
            "ddr": self._ddr,
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
            "dnssec": lambda: self._validation().dnssec(),
            "trust_anchors_state": lambda: self._validation().trust_anchors_state(),
            "negative_trust_anchors": lambda: self._validation().negative_trust_anchors(),
        }

    def _validation(self) -> ValidationOptions:
        from corepy_forward.validation.options import ValidationOptions

        return ValidationOptions(self._c, self._settings.validation)

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
        check = HealthCheckOptions(interval=self._positive_seconds("health_check"))
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
        paths = [self._c.path(token) for token in self._c.arguments(0, 3)]
        self._settings.tls = TLSFiles.from_paths(paths)

    def _tls_servername(self) -> None:
        try:
            self._settings.tls_servername = server_name(self._argument())
        except ValueError as error:
            raise self._c.error(str(error)) from None

    def _ddr(self) -> None:
        self._settings.ddr = "verified"
        if self._c.next_arg():
            if self._c.val != "opportunistic":
                raise self._c.error(f"ddr: unknown option {self._c.val}", None, "ddr opportunistic")
            self._settings.ddr = self._c.val
            if self._c.next_arg():
                raise self._c.arg_error()

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
