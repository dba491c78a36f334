"""Credentials from local services: of a container or pod, and of an EC2 instance.

AWS SDKs and Tools Reference Guide, "Container credential provider" and "IMDS credential provider".
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from corepy.http.connecting import resolve
from corepy.zone.polled_api import PollError
from corepy_route53.requesting import read_token, send_once, target_of, unix_time
from corepy_route53.signing import Credentials

if TYPE_CHECKING:
    from corepy.http.http_client import HTTPTarget
    from corepy_route53.options import Environment
    from corepy_route53.requesting import Response

CONTAINER: Final = "http://169.254.170.2"
INSTANCE: Final = "http://169.254.169.254"
_CONTAINER_HOSTS: Final = frozenset(("169.254.170.2", "169.254.170.23", "fd00:ec2::23"))
"""The agents of ECS and of EKS Pod Identity."""

_ROLES: Final = "/latest/meta-data/iam/security-credentials/"
_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - a path
_TOKEN_SECONDS: Final = "300"  # noqa: S105 - a number
_IMDS_TIMEOUT: Final = 2.0
"""Seconds; a host that is not an EC2 instance has no route to the service."""


async def container_credentials(environment: Environment) -> Credentials:
    """Return the credentials of the container's agent; raises `OSError`."""
    relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if relative:
        target = target_of(CONTAINER + relative, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        if target.host not in _CONTAINER_HOSTS:
            raise PollError("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path")
    else:
        variable = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
        target = target_of(environment.get(variable), variable)
        await _check_host(target)
    headers = [("Accept", "application/json")]
    token = await _container_token(environment)
    if token:
        headers.append(("Authorization", token))
    response = await _send(target, "GET", headers, "the container's credentials")
    return _credentials_of(response, "the container's agent")


async def _container_token(environment: Environment) -> str:
    variable = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
    path = environment.get(variable)
    if path:
        return await read_token(path, variable)
    return environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").strip()


async def _check_host(target: HTTPTarget) -> None:
    """Raise `PollError` for a host that must not get the token without encryption."""
    if target.scheme == "https" or target.host in _CONTAINER_HOSTS:
        return
    addresses = await resolve(target.host, target.port)
    if not addresses or not all(ip_address(it).is_loopback for it in addresses):
        raise PollError(
            f"AWS_CONTAINER_CREDENTIALS_FULL_URI: http is only for this host and the agents of ECS"
            f" and EKS, not for {target.host}"
        )


async def instance_credentials(environment: Environment) -> Credentials:
    """Return the credentials of the instance's role (IMDSv2); raises `OSError`."""
    if environment.is_true("AWS_EC2_METADATA_DISABLED"):
        raise PollError("AWS_EC2_METADATA_DISABLED forbids the option instance_metadata")
    variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
    target = target_of(environment.get(variable) or INSTANCE, variable)
    lifetime = [("X-aws-ec2-metadata-token-ttl-seconds", _TOKEN_SECONDS)]
    answer = await _send(target, "PUT", lifetime, "a session token", _TOKEN_PATH)
    headers = [("X-aws-ec2-metadata-token", _text(answer))]
    roles = _text(await _send(target, "GET", headers, "the role of the instance", _ROLES))
    path = _ROLES + quote(roles.splitlines()[0], safe="")
    response = await _send(target, "GET", headers, "the credentials of the role", path)
    return _credentials_of(response, "the role of the instance")


async def _send(
    target: HTTPTarget,
    method: str,
    headers: list[tuple[str, str]],
    what: str,
    path: str | None = None,
) -> Response:
    """Return a response with status 200; raises `PollError` that names what was requested."""
    timeout = 10.0 if path is None else _IMDS_TIMEOUT
    try:
        response = await send_once(target, method, headers, path=path, timeout=timeout)
    except OSError as error:
        reason = error.strerror or error
        raise PollError(f"cannot get {what} at {target.authority}: {reason}") from None
    if response.status != 200:
        problem = f"cannot get {what} at {target.authority}: HTTP status {response.status}"
        if response.status == 404 and path == _ROLES:
            problem += "; the instance has no role"
        raise PollError(problem)
    return response


def _text(response: Response) -> str:
    text = response.body.decode("utf-8", "replace").strip()
    if not text or not all(line.isascii() and line.isprintable() for line in text.splitlines()):
        raise PollError("the metadata service sends a malformed response")
    return text


def _credentials_of(response: Response, source: str) -> Credentials:
    """Return the credentials in a JSON document; raises `PollError`."""
    try:
        document: Any = json.loads(response.body)
    except (ValueError, RecursionError):
        document = None
    document = document if isinstance(document, dict) else {}
    names = ("AccessKeyId", "SecretAccessKey", "Token")
    access_key, secret, token = (str(document.get(name) or "") for name in names)
    if not access_key or not secret:
        raise PollError(f"{source} has sent no credentials")
    expires = unix_time(str(document.get("Expiration", "")))
    return Credentials(access_key, secret, token, expires, source)
