"""The clouds of Azure: the addresses of their APIs.

The names and addresses are those of go-autorest (autorest/azure/environments.go).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.http.http_client import parse_url
from corepy.http.json_api import is_protected
from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.http.http_client import HTTPTarget

STACK: Final = "AZURESTACKCLOUD"
"""The cloud whose addresses are in a file."""

STACK_VARIABLE: Final = "AZURE_ENVIRONMENT_FILEPATH"

_LARGEST: Final = 1 << 20
"""Bytes of a file with addresses."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """The addresses of one cloud; the paths of `login` and `manager` are empty."""

    login: HTTPTarget
    """Issues tokens."""

    manager: HTTPTarget
    """The API of Azure Resource Manager."""

    audience: str
    """The resource that a token is for."""

    def with_login(self, url: str) -> Cloud:
        """Return the cloud with another address for tokens; raises ValueError."""
        return replace(self, login=secure_target(url))


def secure_target(url: str) -> HTTPTarget:
    """Return the server in a URL, without its path.

    Raises ValueError for a malformed URL, and for one that would send secrets in clear text.
    """
    target = parse_url(url)
    if not is_protected(target):
        raise ValueError("a URL that gets secrets begins with https://")
    return replace(target, path="", authorization="")


def _cloud(login: str, manager: str) -> Cloud:
    return Cloud(secure_target(login), secure_target(manager), manager)


PUBLIC: Final = _cloud("https://login.microsoftonline.com", "https://management.azure.com/")
_CHINA: Final = _cloud("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn/")
_GERMANY: Final = _cloud(
    "https://login.microsoftonline.de", "https://management.microsoftazure.de/"
)
_US_GOVERNMENT: Final = _cloud(
    "https://login.microsoftonline.us", "https://management.usgovcloudapi.net/"
)

CLOUDS: Final[Mapping[str, Cloud]] = {
    "AZURECHINACLOUD": _CHINA,
    "AZURECLOUD": PUBLIC,
    "AZUREGERMANCLOUD": _GERMANY,
    "AZUREPUBLICCLOUD": PUBLIC,
    "AZUREUSGOVERNMENT": _US_GOVERNMENT,
    "AZUREUSGOVERNMENTCLOUD": _US_GOVERNMENT,
}
"""The clouds by their names in upper case."""

NAMES: Final = (
    "AzurePublicCloud, AzureChinaCloud, AzureGermanCloud, AzureUSGovernmentCloud, AzureStackCloud"
)


def cloud_of(environ: Mapping[str, str], name: str = "") -> Cloud:
    """Return the cloud of a name, by default that of the environment, or the public one.

    The variables are AZURE_ENVIRONMENT and AZURE_AUTHORITY_HOST; the latter is set by the webhook
    for workload identities. Raises ValueError with the reason.
    """
    name = name or environ.get("AZURE_ENVIRONMENT", "")
    if name:
        return _named(name.upper(), environ)
    login = environ.get("AZURE_AUTHORITY_HOST", "")
    if not login:
        return PUBLIC
    try:
        made = PUBLIC.with_login(login)
    except ValueError as error:
        raise ValueError(f"the variable AZURE_AUTHORITY_HOST: {error}") from None
    return next((it for it in CLOUDS.values() if it.login == made.login), made)


def _named(name: str, environ: Mapping[str, str]) -> Cloud:
    if name == STACK:
        path = environ.get(STACK_VARIABLE, "")
        if not path:
            raise ValueError(f"the variable {STACK_VARIABLE} must name the file of AzureStackCloud")
        return cloud_of_file(Path(path))
    cloud = CLOUDS.get(name)
    if cloud is None:
        raise ValueError(f"there is no cloud {name!r}")
    return cloud


def cloud_of_file(path: Path) -> Cloud:
    """Return the cloud whose addresses are in a JSON file; raises ValueError with the reason."""
    try:
        content, _ = read_file(path, _LARGEST)
        fields = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise ValueError(f"{path}: {reason}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: it is not a JSON object")
    login = _address(path, fields, "activeDirectoryEndpoint")
    manager = _address(path, fields, "resourceManagerEndpoint")
    audience = fields.get("tokenAudience") or fields["resourceManagerEndpoint"]
    if not isinstance(audience, str):
        raise ValueError(f"{path}: tokenAudience is not a text")
    return Cloud(login, manager, audience)


def _address(path: Path, fields: Mapping[str, object], name: str) -> HTTPTarget:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{path} has no {name}")
    try:
        return secure_target(value)
    except ValueError as error:
        raise ValueError(f"{path}: {name}: {error}") from None
