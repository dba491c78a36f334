"""Keys, signatures and certificate requests of the ACME form; the only importer of cryptography."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER_SIZE: Final = 32
"""Bytes of a number of the curve P-256."""


def encode(data: bytes) -> str:
    """Return the base64url form without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def new_key() -> bytes:
    """Return a new private key for P-256 in PEM form."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class AccountKey:
    """The key that signs the requests of an account (RFC 7515, RFC 7518 section 3.4)."""

    def __init__(self, pem: bytes) -> None:
        """Read a key that `new_key` returned; raise ValueError for other text."""
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("not a key for P-256")
        self._key = key
        numbers = key.public_key().public_numbers()
        self.jwk: Final = {
            "crv": "P-256",
            "kty": "EC",
            "x": encode(numbers.x.to_bytes(_NUMBER_SIZE, "big")),
            "y": encode(numbers.y.to_bytes(_NUMBER_SIZE, "big")),
        }
        """The public key (RFC 7517)."""

    def proof(self, token: str) -> str:
        """Return the content of the TXT record for a challenge (RFC 8555 section 8.4)."""
        canonical = json.dumps(self.jwk, separators=(",", ":"), sort_keys=True)
        thumbprint = encode(hashlib.sha256(canonical.encode()).digest())  # RFC 7638
        return encode(hashlib.sha256(f"{token}.{thumbprint}".encode()).digest())

    def sign(self, payload: bytes, **protected: Any) -> bytes:
        """Return a JWS with these protected fields, as JSON."""
        head = encode(json.dumps({"alg": "ES256", **protected}).encode())
        body = encode(payload)
        der = self._key.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        signature = b"".join(it.to_bytes(_NUMBER_SIZE, "big") for it in decode_dss_signature(der))
        return json.dumps(
            {"protected": head, "payload": body, "signature": encode(signature)}
        ).encode()


def signing_request(key: bytes, domains: Sequence[str]) -> bytes:
    """Return the certificate request (DER) for domains, whose private key is `key` (PEM)."""
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return (
        request.add_extension(names, critical=False)
        .sign(private, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def validity(chain: bytes, key: bytes, domains: Sequence[str]) -> tuple[float, float]:
    """Return the times of day between which a new certificate is valid, in seconds since 1970.

    Raises ValueError if it is not for `key` and `domains`.
    """
    certificate = x509.load_pem_x509_certificates(chain)[0]
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    if certificate.public_key() != private.public_key():
        raise ValueError("the certificate is for another key")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    missing = set(domains) - set(names.value.get_values_for_type(x509.DNSName))
    if missing:
        raise ValueError(f"the certificate is not for {min(missing)}")
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin.timestamp(), end.timestamp()
