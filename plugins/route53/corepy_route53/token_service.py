"""Credentials of roles from the Security Token Service (AWS STS API Reference)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.http.http_client import HTTPTarget
from corepy.http.json_api import is_protected
from corepy.zone.polled_api import PollError, hint_of_status
from corepy_route53.endpoints import partition_of
from corepy_route53.requesting import send, session_for, target_of, unix_time
from corepy_route53.signing import Credentials, Scope, SignedRequest, query_text, sign
from corepy_route53.xml_reader import read_xml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy_route53.options import Environment
    from corepy_route53.requesting import Response

_VERSION: Final = "2011-06-15"
_FORM: Final = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
SESSION: Final = "corepy"
"""The name of a session of a role, which CloudTrail shows."""


class Role(NamedTuple):
    """A role to assume."""

    arn: str
    session: str = ""
    external_id: str = ""


class TokenService:
    """Requests credentials in one region."""

    def __init__(self, environment: Environment, region: str) -> None:
        self._environment = environment
        self._region = region

    async def assume(self, role: Role, credentials: Credentials) -> Credentials:
        """Return the credentials of a role, which `credentials` may assume; raises `OSError`."""
        return await self._request("AssumeRole", _parameters(role), role, credentials)

    async def assume_with_token(self, role: Role, token: str) -> Credentials:
        """Return the credentials of a role for the token of a pod; raises `OSError`."""
        parameters = {**_parameters(role), "WebIdentityToken": token}
        return await self._request("AssumeRoleWithWebIdentity", parameters, role, None)

    async def _request(
        self,
        action: str,
        parameters: Mapping[str, str],
        role: Role,
        credentials: Credentials | None,
    ) -> Credentials:
        target = self._target()
        body = query_text({"Action": action, "Version": _VERSION, **parameters}.items()).encode()
        headers = [_FORM]
        path = target.path or "/"
        if credentials is not None:
            region = self._region or partition_of("").region
            request = SignedRequest("POST", path, "", [("Host", target.authority), _FORM], body)
            now = time.time()  # time of day: a part of the signature
            headers += sign(request, credentials, Scope(region, "sts"), now)
        session = session_for(target, self._environment.get("AWS_CA_BUNDLE"))
        try:
            response = await send(session, "POST", path, headers, body)
        except OSError as error:
            reason = error.strerror or error
            raise PollError(f"cannot get credentials at {target.authority}: {reason}") from None
        finally:
            session.close()
        return _credentials_of(response, action, role)

    def _target(self) -> HTTPTarget:
        region, found = self._region, self._environment.endpoint("STS")
        if found is not None:
            variable, url = found
            target = target_of(url, variable)
            _check_encryption(target, variable)
            return target
        suffix = partition_of(region).suffix
        return HTTPTarget("https", f"sts.{region}.{suffix}" if region else f"sts.{suffix}", 443, "")


def _check_encryption(target: HTTPTarget, variable: str) -> None:
    """Raise `PollError` for an endpoint that would get and send secrets without encryption."""
    if not is_protected(target):
        raise PollError(f"{variable}: credentials of roles need https, except on localhost")


def _parameters(role: Role) -> dict[str, str]:
    parameters = {"RoleArn": role.arn, "RoleSessionName": role.session or SESSION}
    if role.external_id:
        parameters["ExternalId"] = role.external_id
    return parameters


def _credentials_of(response: Response, action: str, role: Role) -> Credentials:
    """Return the credentials in a response; raises `PollError`."""
    try:
        root = read_xml(response.body)
    except ValueError:
        root = None
    if response.status != 200 or root is None:
        code = "" if root is None else root.text_of("Error", "Code")[:60]
        hint = _HINTS.get(code) or hint_of_status(response.status)
        problem = f"cannot assume the role {role.arn}: {code or f'HTTP status {response.status}'}"
        raise PollError(f"{problem}; {hint}" if hint else problem, retry_after=response.retry_after)
    place = (f"{action}Result", "Credentials")
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    access_key, secret, token = (root.text_of(*place, name) for name in names)
    if not access_key or not secret or not token:
        raise PollError(f"cannot assume the role {role.arn}: the response has no credentials")
    expires = unix_time(root.text_of(*place, "Expiration"))
    return Credentials(access_key, secret, token, expires, f"the role {role.arn}")


_HINTS: Final = {
    "AccessDenied": "its trust policy must allow this identity to assume it",
    "ExpiredTokenException": "the token in the file has expired",
    "InvalidIdentityToken": "the OIDC provider of the cluster is not set up in the account",
    "IDPCommunicationError": "AWS cannot reach the OIDC provider of the cluster",
    "InvalidClientTokenId": "the access key ID is unknown",
    "SignatureDoesNotMatch": "the secret access key is wrong, or the clock of this host",
}
