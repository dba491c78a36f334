"""The settings in the environment, as Nomad's own clients read them.

Source: hashicorp/nomad, api/api.go (DefaultConfig, ConfigureTLS). NOMAD_NAMESPACE has no effect:
the namespace is a part of the name that a client asks for.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin import parse_boolean
from corepy.plugin.tls_client import TLSFiles
from corepy_nomad.tls import TLSSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_ADDRESS: Final = "http://127.0.0.1:4646"


class Environment:
    """Reads the variables."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    @property
    def address(self) -> str:
        """The URL of the agent."""
        return self._get("ADDR") or DEFAULT_ADDRESS

    @property
    def token(self) -> str:
        """The secret of an ACL token, "" without one."""
        return self._get("TOKEN")

    @property
    def region(self) -> str:
        """The region, "" for that of the agent."""
        return self._get("REGION")

    @property
    def authorization(self) -> str:
        """The header Authorization for USER:PASSWORD, "" without one."""
        text = self._get("HTTP_AUTH")
        if not text:
            return ""
        credentials = text if ":" in text else f"{text}:"
        encoded = base64.b64encode(credentials.encode("utf-8", "surrogateescape"))
        return "Basic " + encoded.decode("ascii")

    @property
    def tls(self) -> TLSSettings:
        """The settings for https; raises ValueError for a certificate without its key."""
        cert, key = self._path("CLIENT_CERT"), self._path("CLIENT_KEY")
        if (cert is None) != (key is None):
            raise ValueError("NOMAD_CLIENT_CERT and NOMAD_CLIENT_KEY need each other")
        return TLSSettings(
            TLSFiles(cert, key, self._path("CACERT")),
            self._path("CAPATH"),
            self._get("TLS_SERVER_NAME"),
            bool(parse_boolean(self._get("SKIP_VERIFY"))),
        )

    @property
    def warnings(self) -> list[str]:
        """Messages about variables whose values are dangerous or ignored."""
        text = self._get("SKIP_VERIFY")
        is_skipped = parse_boolean(text)
        if is_skipped:
            return ["NOMAD_SKIP_VERIFY is set: the certificate of Nomad is not verified"]
        if text and is_skipped is None:
            return [f"NOMAD_SKIP_VERIFY is ignored: {text!r} is neither true nor false"]
        return []

    def _get(self, name: str) -> str:
        return self._variables.get(f"NOMAD_{name}", "")

    def _path(self, name: str) -> Path | None:
        text = self._get(name)
        return Path(text) if text else None
