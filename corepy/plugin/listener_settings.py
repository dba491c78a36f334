"""Settings of a server block that its listeners use, and the rules for blocks that share one.

A directive stores a setting with `Controller.configure`, like any other value. Several blocks may
listen at one address, with different settings. `merge` of the setting decides which one the
listener uses; `corepy.server.build.listener_configs` calls it, and reports conflicts at the
directives. A transport names the settings that it uses in `Transport.settings`, and gets them in
`Listener.swap`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from typing import Self

    from corepy.corefile import Token
    from corepy.dns.tsig import TSIGKey


class Conflict(NamedTuple):
    """A setting of one block that conflicts with another one at a listener that they share."""

    at_fault: int
    """The number of the setting at fault, from 0 in the order of the blocks."""

    other: int
    """The number of the setting that it conflicts with."""

    message: str
    token: Token | None = None
    """Where to report it; by default the directive of the setting."""

    is_error: bool = True
    """Whether it refuses the configuration; otherwise it is a warning."""


class ListenerSetting:
    """Base class of settings for listeners; a subclass is a frozen dataclass with defaults.

    Without a method `merge` of its own, the blocks that share a listener must not have different
    settings.
    """

    __slots__ = ()

    must_apply: ClassVar[bool] = False
    """Whether a block with this setting is refused at a listener that does not use it."""

    @classmethod
    def merge(cls, settings: Sequence[Self]) -> tuple[Self, list[Conflict]]:
        """Return the setting of a listener, and the conflicts.

        `settings` are those of its blocks that have one, in the order of the file; not empty.
        """
        message = "another server block at this address has different settings"
        return settings[0], differences(settings, 0, message, is_error=True)


def differences(
    settings: Sequence[Any], chosen: int, message: str, *, is_error: bool
) -> list[Conflict]:
    """Return a conflict for each setting that differs from the one of index `chosen`."""
    return [
        Conflict(index, chosen, message, is_error=is_error)
        for index, setting in enumerate(settings)
        if setting != settings[chosen]
    ]


@dataclass(frozen=True, slots=True)
class Timeouts(ListenerSetting):
    """The limits of a client's connection; *timeouts* sets it.

    The defaults are those of core/dnsserver/server.go. Of several blocks at a listener, the last
    one that gives a limit decides, as in CoreDNS.
    """

    read: float = 3.0
    """Seconds for a client to send its first query."""

    idle: float = 10.0
    """Seconds that a connection may be idle between queries."""

    write: float = 5.0
    """Seconds for a client to accept a reply."""

    max_queries: int | None = None
    """Maximum queries on one connection before it is closed; None for no limit."""

    max_connections: int | None = None
    """Maximum connections of the listener; None for a default that depends on memory."""

    max_client_connections: int | None = None
    """Maximum connections of one client, an IPv4 address or an IPv6 /64; None for half of all."""

    max_pending: int | None = None
    """Maximum queries of all connections that wait for replies; None for the default.

    One client may have three quarters of them.
    """

    given: frozenset[str] = frozenset()
    """The names of the fields that the block gives, even if their values are the defaults."""

    @classmethod
    def merge(cls, settings: Sequence[Self]) -> tuple[Self, list[Conflict]]:
        """Return the limits that the last block gives for each."""
        merged = cls()
        for setting in settings:
            values = {name: getattr(setting, name) for name in _LIMITS}
            changes = {
                name: value
                for name, value in values.items()
                if name in setting.given or value != getattr(cls(), name)
            }
            merged = replace(merged, **changes, given=merged.given | changes.keys())
        return merged, []


_LIMITS: Final = (
    "read",
    "idle",
    "write",
    "max_queries",
    "max_connections",
    "max_client_connections",
    "max_pending",
)


class ServerCertificate(NamedTuple):
    """The certificate of a server, for protocols that do not use OpenSSL."""

    chain: bytes
    """Certificates in PEM form; the first one is the server's."""

    key: bytes
    """The private key in PEM form."""

    verifies_clients: bool = False
    """Whether clients may or must have a certificate, which is verified."""


class CertificateSource(Protocol):
    """The certificate of a server, and its demands on the certificates of clients.

    Blocks with equal sources can share a listener, so a source compares by its configuration. The
    certificate may change while the server runs. Methods are called in the event loop, and return
    at once.
    """

    def __eq__(self, other: object) -> bool:
        """Return whether a client gets the same certificate and the same demands from both."""

    @property
    def fingerprint(self) -> bytes:
        """Identifies the current certificate and demands; it changes when any of them changes.

        Listeners and generations with equal fingerprints share their contexts, so that clients can
        resume sessions after a reload.
        """

    def create_context(self) -> ssl.SSLContext:
        """Return a new context for the server side; it may raise OSError, also without one yet."""

    def certificate(self) -> ServerCertificate:
        """Return the current certificate; it may raise OSError, also without one yet."""


@dataclass(frozen=True, slots=True)
class TLSSetting(ListenerSetting):
    """The certificate for the encrypted transports of a block; *tls* sets it.

    Blocks at one listener must not have different certificates, because a client gets its
    certificate before its query. A block without one uses that of the others. CoreDNS uses the
    settings of any of the blocks, also of one without a certificate.
    """

    source: CertificateSource | None = None

    def context(self, *protocols: str) -> ssl.SSLContext | None:
        """Return a new context that negotiates `protocols` (ALPN); None without a certificate.

        Each transport has a context with its own protocols.
        """
        if self.source is None:
            return None
        context = self.source.create_context()
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


@dataclass(frozen=True, slots=True)
class TSIGKeys(ListenerSetting):
    """The secrets that sign queries and replies; *tsig* sets it.

    All blocks at a listener share their keys, as in CoreDNS: the signature of a query is verified
    before a block is selected. If two blocks have a key of one name, the last one's secret applies.
    """

    secrets: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    """The secrets by key name, in wire form and lower case."""

    tokens: Mapping[bytes, Token] = field(default_factory=dict, repr=False, compare=False)
    """The positions of the keys in the Corefile, likewise."""

    algorithms: Mapping[bytes, bytes] = field(default_factory=dict)
    """The algorithms with which this server itself signs, by key name, for keys that state one.

    Both names are in wire form and lower case. A query may be signed with any algorithm.
    """

    refuses_earlier: bool = False
    """Whether a query is invalid if an earlier one with its key states a later time of signing."""

    def key(self, name: bytes) -> TSIGKey | None:
        """Return the key with this name for signing queries of the server, None without one."""
        secret = self.secrets.get(name)
        if secret is None:
            return None
        from corepy.dns.tsig import HMAC_SHA256, TSIGKey

        return TSIGKey(name, secret, self.algorithms.get(name, HMAC_SHA256))

    @classmethod
    def merge(cls, settings: Sequence[Self]) -> tuple[Self, list[Conflict]]:
        """Return all keys; warn of a name with two secrets."""
        secrets: dict[bytes, bytes] = {}
        owners: dict[bytes, int] = {}
        conflicts: list[Conflict] = []
        for index, setting in enumerate(settings):
            message = "this key replaces a key of another server block at this address"
            conflicts += [
                Conflict(index, owners[name], message, setting.tokens.get(name), is_error=False)
                for name, secret in setting.secrets.items()
                if secrets.get(name, secret) != secret
            ]
            secrets.update(setting.secrets)
            owners.update(dict.fromkeys(setting.secrets, index))
        refuses_earlier = any(setting.refuses_earlier for setting in settings)
        return cls(secrets, refuses_earlier=refuses_earlier), conflicts


class _FirstBlockDecides(ListenerSetting):
    """Limits of a transport; blocks on other transports may have them without effect."""

    __slots__ = ()

    @classmethod
    def merge(cls, settings: Sequence[Self]) -> tuple[Self, list[Conflict]]:
        """Return the limits of the first block; warn of others that differ."""
        message = "these limits have no effect: an earlier server block at this address decides"
        return settings[0], differences(settings, 0, message, is_error=False)


@dataclass(frozen=True, slots=True)
class QUICLimits(_FirstBlockDecides):
    """The limits of quic:// listeners (core/dnsserver/server_quic.go); *quic* sets it."""

    max_streams: int = 256
    worker_pool_size: int = 1024
    max_connections: int = 200


@dataclass(frozen=True, slots=True)
class HTTPSLimits(_FirstBlockDecides):
    """The limits of https:// listeners (core/dnsserver/server_https.go); *https* sets it."""

    max_connections: int = 200
    """0 for no limit."""

    plaintext: bool = False
    """Whether the listener serves HTTP without TLS, which a proxy terminates."""


@dataclass(frozen=True, slots=True)
class HTTPS3Limits(_FirstBlockDecides):
    """The limits of https3:// listeners (core/dnsserver/server_https3.go); *https3* sets it."""

    max_streams: int = 256
    """0 for the limit of the library."""

    max_connections: int = 200
    """0 for no limit."""


@dataclass(frozen=True, slots=True)
class GRPCLimits(_FirstBlockDecides):
    """The limits of grpc:// listeners (core/dnsserver/server_grpc.go); *grpc_server* sets it."""

    max_streams: int = 256
    """0 for no limit."""

    max_connections: int = 200
    """0 for no limit."""

    plaintext: bool = False
    """Whether the listener serves HTTP/2 without TLS, which a proxy terminates."""
