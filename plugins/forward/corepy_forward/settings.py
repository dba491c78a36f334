"""The settings of one `forward` line, with the defaults of CoreDNS (forward.go, New)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from corepy_forward.targets import ToAddress

MAX_TARGETS = 15
"""Maximum number of TOs in one line (setup.go)."""


@dataclass(slots=True)
class HealthCheck:
    """The option `health_check`."""

    interval: float = 0.5
    """Seconds between two probes to an upstream that does not answer."""

    recursion_desired: bool = True
    domain: str = "."
    """The QNAME of probes, whose type is NS."""


@dataclass(slots=True)
class TLSFiles:
    """The PEM files of the option `tls`; defaults: no client certificate, the system's CAs."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None


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
    health: HealthCheck = field(default_factory=HealthCheck)
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
    tls_contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)
    """TLS contexts by transport in TO; created in setup, which thereby detects invalid files."""
