"""Reads files of Google's Application Default Credentials.

A URL that gets secrets must be one of Google's own hosts: with a manipulated file, the secrets of
this host, such as the token of a workload identity, could be sent to another one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from corepy.http.http_client import parse_url
from corepy.http.json_api import is_loopback
from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.http.http_client import HTTPTarget

    Fields = Mapping[str, Any]

LARGEST: Final = 1 << 20
"""Bytes of a file."""

FILE_VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_FOLDER_VARIABLE: Final = "CLOUDSDK_CONFIG"
_FILE_NAME: Final = "application_default_credentials.json"

USUAL_URL: Final = "https://oauth2.googleapis.com/token"
"""Where the tokens of an authorized user come from, whose file need not name it."""

_IMPERSONATED: Final = "impersonated_service_account"


class UnusableFile(ValueError):
    """The file has no usable credentials; the message has the reason, without the path."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A key of a service account, which signs a request for a token (RFC 7523)."""

    email: str
    key_id: str
    private_key: str = field(repr=False)
    url: HTTPTarget
    audience: str
    """The URL as the file has it."""


@dataclass(frozen=True, slots=True)
class AuthorizedUser:
    """The refresh token of a user, as `gcloud auth application-default login` writes it."""

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    url: HTTPTarget
    quota_project: str
    """The project that requests are counted for, "" for that of the credentials."""


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """A token of another identity provider, in a file: workload identity federation."""

    audience: str
    token_type: str
    url: HTTPTarget
    token_file: Path
    member: str
    """The member of the JSON object in the file that has the token, "" for plain text."""

    impersonation: HTTPTarget | None
    """Where a token of a service account is made with the token, if that is wanted."""


@dataclass(frozen=True, slots=True)
class Impersonation:
    """A service account for which the owner of other credentials gets tokens."""

    source: Credentials
    url: HTTPTarget
    delegates: tuple[str, ...]


Credentials = ServiceAccount | AuthorizedUser | ExternalAccount | Impersonation


def usual_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file of the Application Default Credentials, None if there is none.

    It is that of the environment, or the one that gcloud writes.
    """
    path = environ.get(FILE_VARIABLE, "")
    if path:
        return Path(path)
    folder = environ.get(_FOLDER_VARIABLE, "")
    home = environ.get("HOME", "")
    if not folder and not home:
        return None
    found = (Path(folder) if folder else Path(home, ".config", "gcloud")) / _FILE_NAME
    return found if found.is_file() else None


def read_credentials(path: Path) -> Credentials:
    """Return the credentials in a file.

    Raises `OSError` if it cannot be read, `UnusableFile` for unusable content.
    """
    return _credentials(_fields(path))


def type_in(path: Path) -> str:
    """Return the type of the credentials in a file, a known one; raises as `read_credentials`."""
    return _type(_fields(path))


def _fields(path: Path) -> Fields:
    content, _ = read_file(path, LARGEST)
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise UnusableFile("it is not JSON") from None
    if not isinstance(fields, dict):
        raise UnusableFile("it is not a JSON object")
    return fields


def _type(fields: Fields) -> str:
    name = fields.get("type")
    if not isinstance(name, str) or not name:
        raise UnusableFile("missing `type` field in credential")
    if name not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise UnusableFile(f"unknown credential type: {name[:60]!r}; known are {known}")
    return name


def _credentials(fields: Fields) -> Credentials:
    name = _type(fields)
    domain = fields.get("universe_domain", "googleapis.com")
    if domain != "googleapis.com":
        raise UnusableFile(f"universe_domain {str(domain)[:60]!r} is not supported")
    return _READERS[name](fields)


def _service_account(fields: Fields) -> Credentials:
    audience = _text(fields, "token_uri")
    return ServiceAccount(
        email=_text(fields, "client_email"),
        key_id=_optional(fields, "private_key_id"),
        private_key=_text(fields, "private_key"),
        url=google_url(audience, "token_uri"),
        audience=audience,
    )


def _authorized_user(fields: Fields) -> Credentials:
    url = _optional(fields, "token_uri") or USUAL_URL
    return AuthorizedUser(
        client_id=_text(fields, "client_id"),
        client_secret=_text(fields, "client_secret"),
        refresh_token=_text(fields, "refresh_token"),
        url=google_url(url, "token_uri"),
        quota_project=_optional(fields, "quota_project_id"),
    )


def _external_account(fields: Fields) -> Credentials:
    source = fields.get("credential_source")
    if not isinstance(source, dict) or not isinstance(source.get("file"), str):
        kinds = ", ".join(sorted(map(str, source)))[:60] if isinstance(source, dict) else "none"
        problem = f"external_account with a credential_source other than file ({kinds})"
        raise UnusableFile(f"{problem} is not supported")
    impersonation = _optional(fields, "service_account_impersonation_url")
    name = "service_account_impersonation_url"
    return ExternalAccount(
        audience=_text(fields, "audience"),
        token_type=_text(fields, "subject_token_type"),
        url=google_url(_text(fields, "token_url"), "token_url"),
        token_file=Path(source["file"]),
        member=_member(source.get("format")),
        impersonation=google_url(impersonation, name) if impersonation else None,
    )


def _member(form: object) -> str:
    """Return the member of a file's JSON object that has the token, "" for a file with text."""
    if form is None:
        return ""
    if not isinstance(form, dict):
        raise UnusableFile("the format of the credential_source is malformed")
    if form.get("type", "text") == "text":
        return ""
    return _text(form, "subject_token_field_name")


def _impersonated(fields: Fields) -> Credentials:
    source, delegates = fields.get("source_credentials"), fields.get("delegates") or []
    if not isinstance(source, dict) or source.get("type") == _IMPERSONATED:
        raise UnusableFile("source_credentials are missing, or are impersonated themselves")
    if not isinstance(delegates, list) or not all(isinstance(it, str) for it in delegates):
        raise UnusableFile("delegates is not a list of texts")
    name = "service_account_impersonation_url"
    url = google_url(_text(fields, name), name)
    return Impersonation(_credentials(source), url, tuple(delegates))


_READERS: Final[Mapping[str, Callable[[Fields], Credentials]]] = {
    "authorized_user": _authorized_user,
    "external_account": _external_account,
    _IMPERSONATED: _impersonated,
    "service_account": _service_account,
}
"""The readers of the types that CoreDNS knows."""


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise UnusableFile(f"{name} is missing")
    return value


def _optional(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def google_url(text: str, name: str) -> HTTPTarget:
    """Return a URL that gets secrets: of Google over TLS, or of this host.

    Raises `UnusableFile` with the name of the member.
    """
    try:
        target = parse_url(text)
    except ValueError as error:
        raise UnusableFile(f"{name}: {error}") from None
    host = target.host
    if is_loopback(host):
        return target
    if target.scheme != "https":
        raise UnusableFile(f"{name} does not begin with https://")
    if host != "accounts.google.com" and not host.endswith(".googleapis.com"):
        raise UnusableFile(f"{name} has the host {host!r}, which is not one of Google's")
    return target
