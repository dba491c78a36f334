"""The configuration of aioquic for a server's connections, from the certificate of *tls*."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from corepy.net.quic.identifiers import ID_SIZE
from corepy.plugin import TLSSetting
from corepy.server.listen.dns_over_tls import without_certificate

if TYPE_CHECKING:
    from corepy.plugin import ListenerConfig
    from corepy.plugin.listener_settings import CertificateSource

_CLIENT_AUTH: Final = (
    "clients' certificates cannot be verified over QUIC, because the library aioquic does not"
    " request them (remove client_auth, or serve tls:// or https://)"
)


def find_certificate_problem(config: ListenerConfig) -> str | None:
    """Return why an address cannot be served over QUIC with its certificate."""
    source = config.get(TLSSetting).source
    if source is None:
        return without_certificate(config)
    try:
        if source.certificate().verifies_clients:
            return _CLIENT_AUTH
        _loaded(source, "doq", 1.0)
    except OSError:  # a certificate is still awaited
        return None
    except ValueError as error:
        return f"QUIC cannot use the certificate or its key: {error}"
    return None


class Configurations:
    """Makes the configuration for each new connection."""

    def __init__(self, protocol: str) -> None:
        """`protocol` is negotiated with ALPN."""
        self._protocol = protocol
        self._source: CertificateSource
        self._idle = 0.0
        self._key: tuple[bytes, float] = (b"", 0.0)
        self._current: QuicConfiguration | None = None

    def use(self, source: CertificateSource, idle: float) -> None:
        """Use the certificate of `source`, and a limit in seconds for idle connections."""
        self._source = source
        self._idle = idle

    def current(self) -> QuicConfiguration | None:
        """Return the configuration for the next connection.

        A certificate that cannot be used leaves the one before; None without any.
        """
        key = self._source.fingerprint, self._idle
        if key != self._key:
            self._key = key
            try:
                self._current = _loaded(self._source, self._protocol, self._idle)
            except (OSError, ValueError):
                return self._current
        return self._current

    def secret(self) -> bytes:
        """Return a secret that all processes with the same private key have.

        It authenticates tokens (RFC 9000 section 10.3.2). Without a key it is empty.
        """
        try:
            key = self._source.certificate().key
        except OSError:
            return b""
        return hashlib.blake2s(key, person=b"quic").digest()


def _loaded(source: CertificateSource, protocol: str, idle: float) -> QuicConfiguration:
    """Return a new configuration; raises OSError, or ValueError with the reason."""
    chain, key, _ = source.certificate()
    certificates = load_pem_x509_certificates(chain)
    private = load_pem_private_key(key)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        if not isinstance(private.curve, ec.SECP256R1 | ec.SECP384R1):
            raise ValueError(f"no signatures with the curve {private.curve.name}")
    elif not isinstance(
        private, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    ):
        raise ValueError("the key is of a kind without signatures in QUIC")
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=[protocol],
        connection_id_length=ID_SIZE,
        idle_timeout=idle,
        certificate=certificates[0],
        certificate_chain=certificates[1:],
        private_key=private,
    )
