"""DNSSEC keys for tests, in files as dnssec-keygen of BIND writes them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CURVES = {13: ("SECP256R1", 32), 14: ("SECP384R1", 48)}
_RSA_BITS = 1024
"""The least that OpenSSL accepts: a longer key takes a second to generate."""


def write_key(
    folder: Path, zone: str, name: str = "", *, algorithm: int = 13, flags: int = 257
) -> Path:
    """Write a new key pair and return the path without suffix.

    `name` is that of the files, by default one with the zone. The algorithm is 13 or 14 (ECDSA), 15
    (Ed25519), or one of RSA. 257 are the flags of a KSK, 256 those of a ZSK.
    """
    owner = zone.removesuffix(".") + "."
    public, fields = _rsa() if algorithm < min(_CURVES) else _elliptic(algorithm)
    base = folder / (name or f"K{owner}+{algorithm:03d}")
    record = f"{owner} IN DNSKEY {flags} 3 {algorithm} {_text(public)}\n"
    base.with_name(base.name + ".key").write_text(f"; A key for {owner}\n{record}")
    lines = ["Private-key-format: v1.3", f"Algorithm: {algorithm} (NAME)"]
    lines += [f"{field}: {_text(value)}" for field, value in fields.items()]
    private = base.with_name(base.name + ".private")
    private.touch(0o600)
    private.write_text("\n".join((*lines, "Created: 2026", "")))
    return base


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _elliptic(algorithm: int) -> tuple[bytes, dict[str, bytes]]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if algorithm not in _CURVES:
        pair = ed25519.Ed25519PrivateKey.generate()
        return pair.public_key().public_bytes_raw(), {"PrivateKey": pair.private_bytes_raw()}
    curve, size = _CURVES[algorithm]
    key = ec.generate_private_key(getattr(ec, curve)())
    point = key.public_key().public_numbers()
    public = point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")
    return public, {"PrivateKey": key.private_numbers().private_value.to_bytes(size, "big")}


def _rsa() -> tuple[bytes, dict[str, bytes]]:
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.generate_private_key(65537, _RSA_BITS).private_numbers()
    public = numbers.public_numbers
    fields = {
        "Modulus": public.n, "PublicExponent": public.e, "PrivateExponent": numbers.d,
        "Prime1": numbers.p, "Prime2": numbers.q, "Exponent1": numbers.dmp1,
        "Exponent2": numbers.dmq1, "Coefficient": numbers.iqmp,
    }  # fmt: skip
    made = {
        name: value.to_bytes((value.bit_length() + 7) // 8, "big") for name, value in fields.items()
    }
    exponent = made["PublicExponent"]
    return bytes((len(exponent),)) + exponent + made["Modulus"], made
