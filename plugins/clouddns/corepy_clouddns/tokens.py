"""Gets tokens for Google's API with Application Default Credentials, or from the metadata server.

A service account signs its request (RFC 7523, JWT with RS256), a user has a refresh token (RFC 6749
section 6), and a workload outside Google Cloud exchanges a token of its own (RFC 8693).
"""

from __future__ import annotations

import base64
import json
import os
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from corepy.http.bearer_api import USUAL_LIFETIME, made_token, token_of
from corepy.http.http_client import HTTPTarget
from corepy.http.json_api import JSONAPI, APIError, document_of, one_line
from corepy.plugin import in_thread
from corepy.plugin.reading import read_file
from corepy.zone.polled_api import PollError
from corepy_clouddns.credentials import (
    FILE_VARIABLE,
    LARGEST,
    AuthorizedUser,
    ExternalAccount,
    ServiceAccount,
    UnusableFile,
    read_credentials,
    usual_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.http.bearer_api import Token
    from corepy_clouddns.credentials import Credentials

SCOPE: Final = "https://www.googleapis.com/auth/ndev.clouddns.readonly"
_CLOUD_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
"""For a token with which another one is made."""

LIFETIME: Final = 3600
"""Seconds of a signed request and of its token, the most that Google permits."""

INSTANCE_METADATA: Final = HTTPTarget("http", "169.254.169.254", 80, "")
"""The metadata server of Compute Engine and GKE, a link-local address."""

_INSTANCE_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/token"

NO_CREDENTIALS: Final = (
    f"no credentials: name a file with the option credentials, or the variable {FILE_VARIABLE};"
    " on Google Cloud, instance_metadata uses the service account of the machine or the pod"
)


@dataclass(frozen=True, slots=True)
class Account:
    """Where requests go, and where their credentials are."""

    server: HTTPTarget
    file: Path | None = None
    """The file with credentials, None for the usual one."""

    instance: HTTPTarget | None = None
    """The metadata server, without a file."""


class Tokens:
    """Fetches tokens for an account; its files are read for each of them."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def fetch(self) -> Token:
        """Return a new token; raises `PollError`, or another `OSError` without a response."""
        instance = self._account.instance if self._account.file is None else None
        place = "Google" if instance is None else "the metadata server"
        try:
            return await (self._from_file() if instance is None else _of_instance(instance))
        except APIError as error:
            hints = _HINTS if instance is None else _INSTANCE_HINTS
            message = f"no token from {place}: {_with_hint(str(error), hints)}"
            raise PollError(message, retry_after=error.retry_after) from None
        except PollError:
            raise
        except OSError as error:
            raise PollError(f"no token from {place}: {error}") from None

    async def _from_file(self) -> Token:
        path = self._account.file or usual_file(os.environ)
        if path is None:
            raise PollError(NO_CREDENTIALS)
        try:
            credentials: Credentials = await in_thread(partial(read_credentials, path))
        except UnusableFile as error:
            raise PollError(f"credentials file {path}: {error}") from None
        except OSError as error:
            raise PollError(f"credentials file {path}: {error.strerror}") from None
        token = await _token(credentials, SCOPE)
        project = _quota_project(credentials)
        return token._replace(headers=(("X-Goog-User-Project", project),)) if project else token


def _quota_project(credentials: Credentials) -> str:
    """Return the project that requests are counted for, "" for that of the credentials."""
    project = os.environ.get("GOOGLE_CLOUD_QUOTA_PROJECT", "")
    if not project and isinstance(credentials, AuthorizedUser):
        project = credentials.quota_project
    return project


async def _token(credentials: Credentials, scope: str) -> Token:
    """Return a token of credentials for a scope; raises `OSError`."""
    if isinstance(credentials, ServiceAccount):
        return await _of_service_account(credentials, scope)
    if isinstance(credentials, AuthorizedUser):
        return await _of_user(credentials)
    if isinstance(credentials, ExternalAccount):
        return await _of_external_account(credentials, scope)
    source = await _token(credentials.source, _CLOUD_SCOPE)
    return await _impersonated(source, credentials.url, scope, credentials.delegates)


async def _of_instance(server: HTTPTarget) -> Token:
    with closing(JSONAPI(server)) as api:
        return token_of(await api.get(_INSTANCE_PATH, [("Metadata-Flavor", "Google")]))


async def _of_service_account(account: ServiceAccount, scope: str) -> Token:
    now = int(time.time())  # time of day: a claim in the request
    assertion: str = await in_thread(partial(signed_request, account, scope, now))
    fields = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    return await _posted(account.url, fields, assertion)


def signed_request(account: ServiceAccount, scope: str, now: int) -> str:
    """Return the request of a service account, a JWT that is valid from `now`, in Unix time.

    In a thread: the signature takes milliseconds. Raises `PollError` if the key cannot be used.
    """
    header = {"alg": "RS256", "typ": "JWT"}
    if account.key_id:
        header["kid"] = account.key_id
    claims = {
        "iss": account.email,
        "scope": scope,
        "aud": account.audience,
        "exp": now + LIFETIME,
        "iat": now,
    }
    signed = b".".join(_encoded(_compact(it)) for it in (header, claims))
    return (signed + b"." + _encoded(rs256(signed, account.private_key))).decode("ascii")


def _compact(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _encoded(data: bytes) -> bytes:
    """Return base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def rs256(data: bytes, private_key: str) -> bytes:
    """Return the signature of RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3).

    Raises `PollError` if the key, in PEM form, cannot be used.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        hint = "pip install 'corepy-dns[clouddns]'"
        problem = f"a key of a service account needs the package cryptography: {hint} ({error})"
        raise PollError(problem) from None
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise PollError("private_key of the credentials is not an RSA key")
        return key.sign(data, padding.PKCS1v15(), SHA256())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        reason = one_line(str(error))
        raise PollError(f"private_key of the credentials is not a usable key: {reason}") from None


async def _of_user(user: AuthorizedUser) -> Token:
    fields = {
        "grant_type": "refresh_token",
        "client_id": user.client_id,
        "client_secret": user.client_secret,
        "refresh_token": user.refresh_token,
    }
    return await _posted(user.url, fields, user.client_secret, user.refresh_token)


async def _of_external_account(account: ExternalAccount, scope: str) -> Token:
    own: str = await in_thread(partial(own_token, account))
    target = account.impersonation
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": account.audience,
        "scope": scope if target is None else _CLOUD_SCOPE,
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": own,
        "subject_token_type": account.token_type,
    }
    token = await _posted(account.url, fields, own)
    return token if target is None else await _impersonated(token, target, scope, ())


def own_token(account: ExternalAccount) -> str:
    """Return the token that the workload has in a file; in a thread. Raises `PollError`."""
    path = account.token_file
    try:
        content, _ = read_file(path, LARGEST)
    except OSError as error:
        raise PollError(f"{path}, the token of the workload: {error.strerror}") from None
    token: Any = content.decode("utf-8", "replace").strip()
    if account.member:
        try:
            fields = json.loads(content)
        except (ValueError, RecursionError):
            fields = None
        token = fields.get(account.member) if isinstance(fields, dict) else None
    if not isinstance(token, str) or not token:
        raise PollError(f"{path} has no token")
    return token


async def _impersonated(
    source: Token, target: HTTPTarget, scope: str, delegates: tuple[str, ...]
) -> Token:
    """Return a token of a service account (IAM Service Account Credentials API)."""
    document = {"scope": [scope], "delegates": list(delegates), "lifetime": f"{LIFETIME}s"}
    headers = [("Authorization", f"Bearer {source.value}")]
    with closing(JSONAPI(target)) as api:
        content = await api.post_json("", document, headers, secrets=(source.value,))
    fields = document_of(content)
    return made_token(fields.get("accessToken"), _remaining(fields.get("expireTime")))


def _remaining(moment: object) -> float:
    """Return the seconds until a time in the form of RFC 3339, as long as a token can be used.

    A time that is malformed, or over because the clock of this host is wrong, gives the usual
    lifetime: else each page of a list would cost a token.
    """
    try:
        # time of day: a token that ends too early or too late by it is refused, and replaced
        seconds = datetime.fromisoformat(str(moment)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return USUAL_LIFETIME
    return min(max(seconds, USUAL_LIFETIME), float(LIFETIME))


async def _posted(target: HTTPTarget, fields: Mapping[str, str], *secrets: str) -> Token:
    """Return the token that is the response to a form, over a connection of its own."""
    with closing(JSONAPI(target)) as api:
        return token_of(await api.post_form("", fields, secrets=secrets))


def _with_hint(text: str, hints: Mapping[str, str]) -> str:
    """Return an error with the next step for the operator."""
    hint = next((hint for part, hint in hints.items() if part in text), "")
    return f"{text}; {hint}" if hint else text


_LOGIN: Final = "the login has ended: gcloud auth application-default login"

_HINTS: Final = {
    "Invalid JWT Signature": "the key was deleted, or is of another account: make a new one",
    "Invalid JWT: Token must be": "the clock of this host is wrong",
    "account not found": "the service account was deleted: make a new key",
    "invalid_grant: Bad Request": _LOGIN,
    "Token has been expired or revoked": _LOGIN,
    "invalid_rapt": _LOGIN,
    "iam.serviceAccounts.getAccessToken": (
        "grant roles/iam.workloadIdentityUser or roles/iam.serviceAccountTokenCreator"
    ),
}
"""The next steps for errors, by a part of their text."""

_INSTANCE_HINTS: Final = {
    "HTTP status 404": "does the machine or the pod have a service account?",
}
"""Those for errors of the metadata server."""
