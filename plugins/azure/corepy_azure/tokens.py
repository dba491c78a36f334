"""Gets tokens for Azure's API: by a client secret, a federated token, or the virtual machine.

The requests are those of OAuth 2.0 client credentials (RFC 6749 section 4.4, RFC 7523 section 2.2)
at the endpoint v2.0 of Microsoft Entra ID, and of the Azure Instance Metadata Service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from corepy.http.bearer_api import token_of
from corepy.http.http_client import HTTPTarget
from corepy.http.json_api import JSONAPI, APIError
from corepy.plugin import in_thread
from corepy.plugin.reading import read_file
from corepy.zone.polled_api import PollError

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.http.bearer_api import Token
    from corepy_azure.clouds import Cloud

INSTANCE_METADATA: Final = HTTPTarget("http", "169.254.169.254", 80, "")
"""The metadata service of virtual machines, a link-local address."""

_INSTANCE_VERSION: Final = "2018-02-01"
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LARGEST: Final = 1 << 20
"""Bytes of a file with a token."""

_TRACE: Final = "Trace ID:"
"""Begins the part of an error that differs for each request."""


@dataclass(frozen=True, slots=True)
class Account:
    """The subscription of some zones, and the identity that may read it."""

    cloud: Cloud
    subscription: str = ""
    tenant: str = ""
    client: str = ""
    secret: str = field(default="", repr=False)
    token_file: Path | None = None
    """The file with the token of a workload identity, instead of a secret."""

    instance: HTTPTarget | None = None
    """The metadata service of the virtual machine, instead of a secret."""

    @property
    def missing(self) -> str:
        """The first setting that is missing, with the hint to set it; "" if none is."""
        if not self.subscription:
            return _missing("subscription", "AZURE_SUBSCRIPTION_ID")
        if self.instance is not None:
            return ""
        if not self.secret and self.token_file is None:
            return (
                f"{_missing('secret', 'AZURE_CLIENT_SECRET')}; or use a workload identity"
                " (AZURE_FEDERATED_TOKEN_FILE), or instance_metadata"
            )
        if not self.tenant:
            return _missing("tenant", "AZURE_TENANT_ID")
        return "" if self.client else _missing("client", "AZURE_CLIENT_ID")


def _missing(option: str, variable: str) -> str:
    return f"{option} is missing: write the option {option}, or set the variable {variable}"


class Tokens:
    """Fetches tokens for an account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._api = JSONAPI(account.instance or account.cloud.login)

    async def fetch(self) -> Token:
        """Return a new token; raises `PollError`, or another `OSError` without a response."""
        account = self._account
        if account.missing:
            raise PollError(account.missing)
        try:
            if account.instance is not None:
                return token_of(await self._from_instance())
            return token_of(await self._from_login())
        except APIError as error:
            raise PollError(_explained(error, account), retry_after=error.retry_after) from None
        except PollError:
            raise
        except OSError as error:
            raise PollError(f"no token from {_place(account)}: {error}") from None

    async def _from_instance(self) -> bytes:
        account = self._account
        query = {"api-version": _INSTANCE_VERSION, "resource": account.cloud.audience}
        if account.client:
            query["client_id"] = account.client
        path = f"/metadata/identity/oauth2/token?{urlencode(query)}"
        return await self._api.get(path, [("Metadata", "true")])

    async def _from_login(self) -> bytes:
        account = self._account
        fields = {
            "grant_type": "client_credentials",
            "client_id": account.client,
            "scope": f"{account.cloud.audience.rstrip('/')}/.default",
        }
        if account.secret:
            proof = fields["client_secret"] = account.secret
        else:
            assert account.token_file is not None
            proof = fields["client_assertion"] = await federated_token(account.token_file)
            fields["client_assertion_type"] = _ASSERTION_TYPE
        path = f"/{quote(account.tenant, safe='')}/oauth2/v2.0/token"
        return await self._api.post_form(path, fields, secrets=(proof,))

    def close(self) -> None:
        """Close the idle connections."""
        self._api.close()


async def federated_token(path: Path) -> str:
    """Return the token in a file, which Kubernetes replaces; raises `PollError`."""
    try:
        content, _ = await in_thread(lambda: read_file(path, _LARGEST))
    except OSError as error:
        raise PollError(f"{path}, the token of the workload identity: {error.strerror}") from None
    token: str = content.decode("ascii", "replace").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise PollError(f"{path} has no token")
    return token


def _place(account: Account) -> str:
    return "the metadata service" if account.instance is not None else "Microsoft Entra ID"


def _explained(error: APIError, account: Account) -> str:
    """Return an error with the next step, without what differs for each request."""
    reason = str(error).partition(_TRACE)[0].rstrip(" .")
    text = f"no token from {_place(account)}: {reason}"
    hint = next((hint for code, hint in _HINTS.items() if code in reason), "")
    return f"{text}; {hint}" if hint else text


_HINTS: Final = {
    "AADSTS700016": "check client and tenant",
    "AADSTS700024": "check the file of the workload identity, and the clock of this host",
    "AADSTS70021": "add a federated credential for this service account to the application",
    "AADSTS90002": "check tenant",
    "AADSTS900023": "check tenant",
    "Identity not found": "assign an identity to the virtual machine, or name it with client",
}
"""The next steps for errors that do not name them, by a part of their text.

AADSTS700211, AADSTS700212 and AADSTS700213, for a wrong issuer, audience or subject, begin with
AADSTS70021.
"""
