"""The credentials of requests, found in the places and in the order of the AWS SDK for Go, v2."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from corepy.plugin import in_thread, plugin_logger
from corepy.zone.polled_api import PollError
from corepy_route53.metadata import container_credentials, instance_credentials
from corepy_route53.requesting import read_token
from corepy_route53.shared_files import read_profiles
from corepy_route53.signing import Credentials
from corepy_route53.token_service import Role, TokenService

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_route53.options import Options
    from corepy_route53.shared_files import Profile, Profiles

LOG: Final = plugin_logger("route53")

AHEAD: Final = 300.0
"""Seconds before their end at which credentials are renewed."""

KEPT: Final = 30.0
"""Seconds after which keys without an end are read again: a file may have others."""

PAUSE: Final = 30.0
"""Seconds between attempts to renew credentials that are still valid."""

DEEPEST: Final = 5
"""Profiles that may refer to each other."""

_NONE: Final = (
    "no credentials of AWS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, write the profile {0}"
    " to {1}, give the pod a role, or use the option instance_metadata on EC2"
)


class CredentialChain:
    """Finds credentials, and renews them before they expire."""

    # time of day: AWS states the end of credentials by it
    def __init__(self, options: Options, now: Callable[[], float] = time.time) -> None:
        """`now` is the time of day in seconds."""
        self._options = options
        self._now = now
        self._current: Credentials | None = None
        self._next_look = 0.0
        self._lock = asyncio.Lock()
        self._problem = ""
        self.region = ""
        """The region of the environment or the profile, "" if none is set."""

    def forget(self) -> None:
        """Find credentials anew: the last ones were refused."""
        self._current = None

    async def get(self) -> Credentials:
        """Return credentials that are valid; raises `OSError`."""
        async with self._lock:
            now = self._now()
            current = self._current
            if current is not None and now < self._next_look:
                return current
            try:
                found = await self._find()
            except OSError as error:
                if current is None or current.expires is None or current.expires <= now:
                    raise
                self._report(str(error))
                self._next_look = min(now + PAUSE, current.expires)
                return current
            self._current, self._problem = found, ""
            end = now + KEPT if found.expires is None else found.expires - AHEAD
            self._next_look = max(end, now + 1)
            return found

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            LOG.warning("the credentials cannot be renewed, those in use are valid: %s", problem)
        self._problem = problem

    async def _find(self) -> Credentials:
        options, environment = self._options, self._options.environment
        self.region = environment.get("AWS_REGION", "AWS_DEFAULT_REGION")
        if options.keys is not None:
            return Credentials(*options.keys, source="aws_access_key")
        profiles: Profiles = await in_thread(lambda: read_profiles(options))
        used = profiles.by_name.get(profiles.name, {})
        self.region = self.region or used.get("region", "")
        if not options.profile:
            found = self._of_environment()
            if found is not None:
                return found
            if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
                return await self._of_pod()
        return await self._of_profile(profiles, profiles.name, 0)

    def _of_environment(self) -> Credentials | None:
        environment = self._options.environment
        access_key = environment.get("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY")
        secret = environment.get("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY")
        if not access_key or not secret:
            return None
        token = environment.get("AWS_SESSION_TOKEN")
        return Credentials(access_key, secret, token, source="the environment variables")

    async def _of_pod(self) -> Credentials:
        """Return the credentials of the role of a pod's service account (EKS, IRSA)."""
        environment = self._options.environment
        arn = environment.get("AWS_ROLE_ARN")
        if not arn:
            raise PollError("AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not")
        role = Role(arn, environment.get("AWS_ROLE_SESSION_NAME"))
        path = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")
        return await self._assume_with_token(role, path, "AWS_WEB_IDENTITY_TOKEN_FILE")

    async def _assume_with_token(self, role: Role, path: str, name: str) -> Credentials:
        token = await read_token(path, name)
        return await self._service.assume_with_token(role, token)

    @property
    def _service(self) -> TokenService:
        return TokenService(self._options.environment, self.region)

    # -- profiles

    async def _of_profile(self, profiles: Profiles, name: str, depth: int) -> Credentials:
        if depth == DEEPEST:
            raise PollError(f"the profile {name!r} refers to itself through source_profile")
        must_exist = profiles.is_chosen or depth > 0
        profile = profiles.get(name) if must_exist else profiles.by_name.get(name, {})
        role = _role_of(profile)
        if role is not None and "web_identity_token_file" in profile:
            path = profile["web_identity_token_file"]
            return await self._assume_with_token(role, path, f"profile {name}")
        if role is not None:
            base = await self._base_of(profiles, name, profile, depth)
            return await self._service.assume(role, base)
        return await self._own_of(profiles, name, profile)

    async def _base_of(
        self, profiles: Profiles, name: str, profile: Profile, depth: int
    ) -> Credentials:
        """Return the credentials that a role of a profile is assumed with."""
        source = profile.get("source_profile")
        if source is not None and source != name:
            return await self._of_profile(profiles, source, depth + 1)
        place = profile.get("credential_source")
        if place is not None:
            return await self._of_place(name, place)
        return await self._own_of(profiles, name, profile)

    async def _of_place(self, name: str, place: str) -> Credentials:
        if place == "Environment":
            found = self._of_environment()
            if found is None:
                problem = "the environment variables have no keys"
                raise PollError(f"profile {name!r}, credential_source: {problem}")
            return found
        if place == "EcsContainer":
            return await container_credentials(self._options.environment)
        if place == "Ec2InstanceMetadata":
            return await self._of_instance(f"profile {name!r}, credential_source")
        raise PollError(f"profile {name!r}: unknown credential_source {place[:40]!r}")

    async def _of_instance(self, reason: str) -> Credentials:
        if not self._options.instance_metadata:
            raise PollError(f"{reason}: use the option instance_metadata to permit it")
        return await instance_credentials(self._options.environment)

    async def _own_of(self, profiles: Profiles, name: str, profile: Profile) -> Credentials:
        """Return the keys of a profile; without any, those of the container or the instance."""
        access_key, secret = profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")
        if access_key and secret:
            token = profile.get("aws_session_token", "")
            source = f"the profile {name!r} of {profiles.files}"
            return Credentials(access_key, secret, token, source=source)
        for key in _UNSUPPORTED:
            if key in profile:
                raise PollError(f"profile {name!r}: corepy does not support {key}")
        environment = self._options.environment
        if environment.get(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
        ):
            return await container_credentials(environment)
        if self._options.instance_metadata:
            return await instance_credentials(environment)
        raise PollError(_NONE.format(name, profiles.files))


_UNSUPPORTED: Final = ("sso_session", "sso_account_id", "credential_process", "login_session")
"""Ways that need a browser or another program."""


def _role_of(profile: Profile) -> Role | None:
    arn = profile.get("role_arn")
    if not arn:
        return None
    if "mfa_serial" in profile:
        raise PollError(f"the role {arn} needs a device (mfa_serial), which a server does not have")
    session, external = profile.get("role_session_name", ""), profile.get("external_id", "")
    return Role(arn, session, external)
