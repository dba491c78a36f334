"""Reads kubeconfig files: contexts, clusters and users, as client-go does.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ has the fields. The file is YAML, so
this module needs PyYAML, which it imports when a Corefile names such a file. Programs that provide
credentials are refused: a DNS server that runs programs of a file is a risk, and they need a
terminal or a browser in part.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin.reading import read_file
from corepy_kubernetes.api_config import Access, endpoint_target, without_password

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LARGEST: Final = 1 << 20
"""Bytes of a file."""

_REFUSED_USER: Final = {
    "exec": "it would run a program (exec); use a token file or a client certificate",
    "auth-provider": "Kubernetes has removed auth-provider; use a token file or a certificate",
    "as": "impersonation (as) is not supported; use the credentials of the account itself",
}
_REFUSED_CLUSTER: Final = {
    "proxy-url": "a proxy (proxy-url) is not supported; the API must be reachable directly",
}


def read_kubeconfig(path: Path, context: str = "") -> Access:
    """Return the access that a file describes, for `context` or for its current context.

    Raises OSError if the file cannot be read, and ValueError with the reason if it is malformed or
    needs what is refused.
    """
    import yaml

    content, _ = read_file(path, LARGEST)
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"it is not YAML: {_first_line(error)}") from None
    return _access(_mapping(document, "the file"), context, path.parent)


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return text if mark is None else f"{text} (line {mark.line + 1})"


def _access(document: Mapping[str, Any], context: str, folder: Path) -> Access:
    name = context or _text(document, "current-context")
    if not name:
        raise ValueError("it has no current-context; name a context after the file")
    chosen = _named(document, "contexts", "context", name)
    cluster_name = _text(chosen, "cluster")
    if not cluster_name:
        raise ValueError(f"the context {name!r} names no cluster")
    cluster = _named(document, "clusters", "cluster", cluster_name)
    user_name = _text(chosen, "user")
    user = _named(document, "users", "user", user_name) if user_name else {}
    _refuse(cluster, _REFUSED_CLUSTER, f"the cluster {cluster_name!r}")
    _refuse(user, _REFUSED_USER, f"the user {user_name!r}")
    server = _text(cluster, "server")
    if not server:
        raise ValueError(f"the cluster {cluster_name!r} has no server")
    try:
        target = endpoint_target(server, is_secure=False)
    except ValueError as error:
        shown = without_password(server)
        raise ValueError(f"the server {shown!r} is not a URL: {error}") from None
    return Access(
        (target,),
        authority=_material(cluster, "certificate-authority", folder),
        server_name=_text(cluster, "tls-server-name") or None,
        is_insecure=_flag(cluster, "insecure-skip-tls-verify"),
        **_credentials(user, user_name, folder),
    )


def _credentials(user: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    certificate = _material(user, "client-certificate", folder)
    key = _material(user, "client-key", folder)
    if (certificate is None) != (key is None):
        missing = "client-key" if key is None else "client-certificate"
        raise ValueError(f"the user {name!r} has no {missing}")
    token_file = _text(user, "tokenFile")
    return {
        "certificate": certificate,
        "key": key,
        "token": _one_line(user, "token"),
        "token_file": folder / token_file if token_file else None,
        "basic": _basic(user),
    }


def _basic(user: Mapping[str, Any]) -> str:
    name = _text(user, "username")
    if not name:
        return ""
    pair = f"{name}:{_text(user, 'password')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _named(document: Mapping[str, Any], key: str, member: str, name: str) -> Mapping[str, Any]:
    """Return the entry with this name of a list; of several, the first one counts."""
    rows = document.get(key) or []
    if not isinstance(rows, list):
        raise ValueError(f"{key} is not a list")
    for row in rows:
        if isinstance(row, dict) and row.get("name") == name:
            return _mapping(row.get(member) or {}, f"the {member} {name!r}")
    raise ValueError(f"it has no {member} {name!r}")


def _refuse(values: Mapping[str, Any], refused: Mapping[str, str], place: str) -> None:
    for key, reason in refused.items():
        if values.get(key):
            raise ValueError(f"{place}: {reason}")


def _material(values: Mapping[str, Any], key: str, folder: Path) -> Path | bytes | None:
    """Return a certificate or a key: data in the file wins over the path of another file."""
    data, path = _text(values, f"{key}-data"), _text(values, key)
    if not data:
        return folder / path if path else None
    try:
        return base64.b64decode(data, validate=False)
    except (binascii.Error, ValueError):
        raise ValueError(f"{key}-data is not base64") from None


def _mapping(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} has no keys and values")
    return value


def _flag(values: Mapping[str, Any], key: str) -> bool:
    value = values.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is not true or false")
    return value


def _one_line(values: Mapping[str, Any], key: str) -> str:
    text = _text(values, key)
    if not (text.isascii() and (text.isprintable() or not text)):
        raise ValueError(f"{key} has characters that a header cannot have")
    return text


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a text")
    return value
