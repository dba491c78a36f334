"""Where the API of the cluster is, and how to authenticate: values that the setup has read."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.http.http_client import parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.http.http_client import HTTPTarget

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The folder that Kubernetes mounts into a pod."""

DEFAULT_QPS: Final = 5.0
DEFAULT_BURST: Final = 10
"""The defaults of client-go."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the requests to the API."""

    qps: float = DEFAULT_QPS
    """Requests a second."""

    burst: int = DEFAULT_BURST
    """Requests at once, after a pause."""

    max_inflight: int = 0
    """Requests at the same time that wait for a response, 0 for any number."""


@dataclass(frozen=True, slots=True)
class Access:
    """A way to the API. Certificates and keys are PEM, in a file or as bytes."""

    endpoints: tuple[HTTPTarget, ...] = ()
    """The servers, of which one is used at a time; a path precedes those of the API."""

    authority: Path | bytes | None = None
    """The certificates to trust; None for those of the system."""

    certificate: Path | bytes | None = None
    key: Path | bytes | None = None
    """The client's certificate and its key."""

    token: str = ""
    token_file: Path | None = None
    """A bearer token, or the file that has the current one."""

    basic: str = ""
    """The value of the header Authorization, for user name and password."""

    server_name: str | None = None
    """The name in the server's certificate, if it is not the host."""

    is_insecure: bool = False
    """Whether any certificate of the server is accepted."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of certificates and keys."""
        parts = (self.authority, self.certificate, self.key)
        return tuple(part for part in parts if isinstance(part, Path))

    @property
    def cluster(self) -> str:
        """The URLs of the endpoints, for messages."""
        return ", ".join(it.url for it in self.endpoints)


def fingerprint(*values: object) -> str:
    """Return 16 hexadecimal digits that identify these values in all processes."""
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def endpoint_target(text: str, *, is_secure: bool) -> HTTPTarget:
    """Return the server that a URL names; raises ValueError with the reason if there is none.

    Without a scheme it is https with `is_secure`, and http otherwise (client-go: DefaultServerURL).
    A query string is ignored (client-go: NewRESTClient).
    """
    found = parse_url(text if "://" in text else f"{'https' if is_secure else 'http'}://{text}")
    return replace(found, path=found.path.partition("?")[0])


def without_password(url: str) -> str:
    """Return a URL, which may be malformed, without user name and password, for a message."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class NotInCluster(Exception):
    """The process is not in a pod that may use the API; the text is the reason."""


def in_cluster_access(
    environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> Access:
    """Return the access of a pod; raises `NotInCluster`.

    As rest.InClusterConfig of client-go: the address is in the environment, the token and the
    certificate of the authority are in the folder of the service account.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise NotInCluster("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    token = folder / "token"
    if not token.is_file():
        raise NotInCluster(f"the pod has no service account token: {token} does not exist")
    authority = folder / "ca.crt"
    try:
        target = parse_url(f"https://{_bracketed(host)}:{port}")
    except ValueError as error:
        raise NotInCluster(f"KUBERNETES_SERVICE_HOST={host} is malformed: {error}") from None
    return Access((target,), authority=authority if authority.is_file() else None, token_file=token)


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host
