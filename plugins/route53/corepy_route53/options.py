"""The settings that requests are made with: options of the Corefile, and the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from corepy.http.http_client import HTTPTarget

VARIABLES: Final = (
    *("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"),
    *("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION"),
    *("AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"),
    *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    *("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    *("AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ROUTE_53", "AWS_ENDPOINT_URL_STS"),
    *("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "HOME"),
)
"""The variables that are read, all of them at the start and at each reload."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment variables of AWS, as they were when the Corefile was read."""

    values: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def current(cls, source: Mapping[str, str] = os.environ) -> Environment:
        """Return those of this process."""
        return cls(tuple((name, source[name]) for name in VARIABLES if source.get(name)))

    def get(self, *names: str) -> str:
        """Return the first of some variables that is set, "" if none is."""
        values = dict(self.values)
        return next((values[name] for name in names if name in values), "")

    def is_true(self, name: str) -> bool:
        """Return whether a variable has the value true."""
        return self.get(name).lower() == "true"

    def endpoint(self, service: str) -> tuple[str, str] | None:
        """Return the variable with the endpoint of a service, and the URL; None without one."""
        if self.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
            return None
        variables = (f"AWS_ENDPOINT_URL_{service}", "AWS_ENDPOINT_URL")
        return next(((it, self.get(it)) for it in variables if self.get(it)), None)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a directive that determine its requests."""

    keys: tuple[str, str] | None = field(default=None, repr=False)
    """The access key ID and the secret access key of `aws_access_key`."""

    endpoint: HTTPTarget | None = None
    profile: str = ""
    """The profile of `credentials`, "" without the option."""

    file: Path | None = None
    """The file of `credentials`."""

    instance_metadata: bool = False
    environment: Environment = field(default_factory=Environment)
