"""Whether an address may be served without TLS, behind a proxy that terminates it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import TLSSetting

if TYPE_CHECKING:
    from corepy.plugin import ListenerConfig


def encryption_problem(config: ListenerConfig, scheme: str, *, is_plaintext: bool) -> str | None:
    """Return why an address cannot be served with its certificate, or without one.

    `is_plaintext` is whether the option plaintext is set in the limits of the transport.
    """
    has_certificate = config.get(TLSSetting).source is not None
    if has_certificate and is_plaintext:
        return "it has a certificate and the option plaintext (remove one of them)"
    if not has_certificate and not is_plaintext:
        return (
            "it has no certificate (add to the server block: tls CERT KEY; or, behind a proxy that"
            f" terminates TLS, the option plaintext of the directive that limits {scheme}://)"
        )
    return None
