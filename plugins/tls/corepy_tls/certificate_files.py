"""`CertificateFiles`: reads certificate, key and authorities from files, again on changes."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corepy.plugin import ServerCertificate, StartupError, hookimpl
from corepy.plugin.failures import reported
from corepy.plugin.filedata import in_thread
from corepy.plugin.log import plugin_logger
from corepy.plugin.reading import file_version, read_file
from corepy_tls.contexts import (
    AuthoritiesError,
    ClientAuth,
    Material,
    create_context,
    create_private,
)
from corepy_tls.validity import shown, validity

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from corepy.plugin.hooks import LifecycleContext
    from corepy.plugin.reading import FileVersion

LOG: Final = plugin_logger("tls")

INTERVAL = 10.0
"""Seconds between two checks of the files."""

SETTLE = 1.0
"""Seconds for which changed files must stay unchanged: certificate and key are written in turn."""

LARGEST: Final = 1 << 20
"""Bytes of a file."""


@dataclass(frozen=True)
class Settings:
    """The arguments of one *tls* directive."""

    certificate: Path
    key: Path
    authorities: Path | None = None
    client_auth: ClientAuth = ClientAuth.NONE
    key_log: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read."""
        given = (self.certificate, self.key)
        return given if self.authorities is None else (*given, self.authorities)


class FileError(ValueError):
    """A file is unusable; the message names it."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


class CertificateFiles:
    """A source of certificates; its hooks watch the files."""

    def __init__(self, settings: Settings) -> None:
        """Read the files; raise `FileError`, or OSError without memory for them."""
        self.settings = settings
        self._material, self._versions = self._load()
        self._fingerprint = self._digest()
        self._validity = validity(self._material.chain)
        self._problem = ""
        self._invalid = self.invalidity
        self._task: asyncio.Task[None] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificateFiles) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings)

    @property
    def fingerprint(self) -> bytes:
        """A digest of the contents and the settings."""
        return self._fingerprint

    @property
    def invalidity(self) -> str:
        """Why clients refuse the certificate because of the time of day; "" if they do not."""
        problem = self._validity.problem() if self._validity else ""
        return f"the certificate {self.settings.certificate} {problem}" if problem else ""

    def create_context(self) -> ssl.SSLContext:
        """Return a new context with the latest usable contents; raises OSError."""
        settings = self.settings
        return create_context(self._material, settings.client_auth, settings.key_log)

    def certificate(self) -> ServerCertificate:
        """Return the latest usable certificate."""
        verifies = self.settings.client_auth is not ClientAuth.NONE
        return ServerCertificate(self._material.chain, self._material.key, verifies)

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Create the file of the key log; raises StartupError."""
        path = self.settings.key_log
        if path is None:
            return
        try:
            create_private(path)
        except OSError as error:
            raise StartupError(f"cannot write the key log {path}: {error.strerror}") from None
        LOG.warning("writing the keys of all TLS connections to %s", path)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start checking the files."""
        self._task = asyncio.create_task(self._watch(), name=f"watch {self.settings.certificate}")

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """Return the state of the certificate, for an operator."""
        invalidity = self.invalidity
        problem = self._problem and f"{self._problem}; the previous certificate stays in use"
        state = f"certificate {self.settings.certificate}"
        if self._validity is not None:
            state += f", valid until {shown(self._validity.end)}"
        return {"state": state, "problems": [it for it in (problem, invalidity) if it]}

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            with reported("tls", f"{self.settings.certificate} cannot be checked"):
                await self.look()
                self.warn_of_invalidity()

    def warn_of_invalidity(self) -> None:
        """Log that the certificate has expired since the last call, or is not valid yet."""
        before, self._invalid = self._invalid, self.invalidity
        if self._invalid not in ("", before):
            LOG.error("%s, so clients refuse it", self._invalid)

    async def look(self) -> None:
        """Load the files if they have changed and are complete; log a new problem once."""
        versions = self._current_versions()
        if versions == self._versions and None not in versions:
            return
        await asyncio.sleep(SETTLE)
        if self._current_versions() != versions:
            return  # the next look comes soon
        try:
            self._take(*await in_thread(self._load))
        except (OSError, ValueError) as error:
            if str(error) != self._problem:
                LOG.error("%s; the previous certificate stays in use", error)
            self._problem = str(error)
            self._versions = versions

    def _take(self, material: Material, versions: tuple[FileVersion | None, ...]) -> None:
        self._versions = versions
        self._problem = ""
        if material != self._material:
            self._material = material
            self._fingerprint = self._digest()
            self._validity = validity(material.chain)
            LOG.info("loaded the certificate %s", self.settings.certificate)

    def _current_versions(self) -> tuple[FileVersion | None, ...]:
        return tuple(file_version(path) for path in self.settings.paths)

    def _load(self) -> tuple[Material, tuple[FileVersion | None, ...]]:
        """Return the contents after a check that a context can be made of them.

        Runs in a thread. Raises `FileError` or OSError, with a message for the operator.
        """
        settings = self.settings
        read = [_read(path) for path in settings.paths]
        material = Material(*(content for content, _ in read))
        _refuse_without(b"CERTIFICATE", settings.certificate, material.chain)
        _refuse_without(b"PRIVATE KEY", settings.key, material.key)
        try:
            create_context(material, settings.client_auth)
        except AuthoritiesError as error:
            assert settings.authorities is not None
            message = f"no usable certificate in {settings.authorities}: {error}"
            raise FileError(settings.authorities, message) from None
        except ValueError as error:
            message = f"cannot use {settings.certificate} with {settings.key}: {error}"
            raise FileError(settings.certificate, message) from None
        return material, tuple(version for _, version in read)

    def _digest(self) -> bytes:
        digest = hashlib.sha256(repr(self.settings).encode())
        for content in self._material:
            digest.update(hashlib.sha256(content or b"").digest())
        return digest.digest()


def _refuse_without(label: bytes, path: Path, content: bytes) -> None:
    """Raise `FileError` if no PEM block in `content` has a label that ends with `label`."""
    if label + b"-----" not in content:
        raise FileError(path, f"{path} has no {label.decode().lower()} in PEM form")


def _read(path: Path) -> tuple[bytes, FileVersion | None]:
    try:
        return read_file(path, LARGEST)
    except OSError as error:
        raise FileError(path, f"cannot read {path}: {error.strerror}") from None
