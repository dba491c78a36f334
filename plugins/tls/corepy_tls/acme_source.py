"""`AcmeSource`: the certificate of a server block that ACME provides."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from corepy.plugin import ServerCertificate, hookimpl
from corepy_tls.acme_certificate import AcmeCertificate, Issued
from corepy_tls.contexts import ClientAuth, Material, create_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.plugin.hooks import LifecycleContext
    from corepy_tls.acme_settings import AcmeSettings


class AcmeSource:
    """A source of certificates; its hooks keep the certificate up to date while it is used."""

    def __init__(self, settings: AcmeSettings) -> None:
        """Use the certificate that is stored, if any."""
        self.settings = settings
        self._certificate = AcmeCertificate.of(settings)
        self._is_using = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AcmeSource) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings)

    @property
    def fingerprint(self) -> bytes:
        """A digest of the settings and the certificate."""
        return self.settings.identity + self._certificate.fingerprint

    def create_context(self) -> ssl.SSLContext:
        """Return a new context, which refuses other names; raises OSError without a certificate."""
        issued = self._issued()
        context = create_context(Material(issued.chain, issued.key), ClientAuth.NONE)
        context.sni_callback = self._check_name
        return context

    def certificate(self) -> ServerCertificate:
        """Return the current certificate; raises OSError if there is none yet."""
        issued = self._issued()
        return ServerCertificate(issued.chain, issued.key, verifies_clients=False)

    def _issued(self) -> Issued:
        issued, problem = self._certificate.issued, self._certificate.problem
        if issued is None:
            domains = ", ".join(self.settings.domains)
            reason = problem or "the CA is being asked for it"
            raise OSError(f"there is no certificate for {domains} yet: {reason}")
        return issued

    def _check_name(
        self, _tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        """Refuse a handshake for a name that the certificate does not have."""
        if name and not self.settings.covers(name):
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Begin to order, renew and read the certificate: the listeners answer its challenges."""
        self._is_using = True
        self._certificate.use(leads=context.process_group.is_leader)

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """End it."""
        if self._is_using:
            self._is_using = False
            await self._certificate.release()

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """Return the state of the certificate."""
        issued, problem = self._certificate.issued, self._certificate.problem
        state = "missing" if issued is None else "expired" if issued.is_expired else "valid"
        return {
            "state": state,
            "problems": [f"{', '.join(self.settings.domains)}: {problem}"] if problem else [],
        }
