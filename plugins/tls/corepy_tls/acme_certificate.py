"""`AcmeCertificate`: one certificate in the storage folder, which one process keeps valid.

Each process reads the file when it has changed. Only the leader of a server orders a certificate,
under a lock on the folder, because an upgrade has two leaders for a while and several servers may
share a folder. The number of attempts is bounded, also over restarts: the file with the failures
has the time of the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple
from weakref import WeakValueDictionary

from corepy.plugin import in_thread
from corepy.plugin.failures import reported
from corepy.plugin.log import plugin_logger
from corepy.plugin.reading import file_version
from corepy_tls.acme_error import describe_failure
from corepy_tls.acme_process import obtain_apart
from corepy_tls.challenges import write_challenges
from corepy_tls.contexts import ClientAuth, Material, create_context
from corepy_tls.storage import lock, read_json, write_json

if TYPE_CHECKING:
    from corepy.plugin.reading import FileVersion
    from corepy_tls.acme_settings import AcmeSettings

LOG: Final = plugin_logger("tls")

INTERVAL: Final = 10.0
"""Seconds between two looks at the file."""

FIRST_INTERVAL: Final = 1.0
"""The same while there is no certificate."""

RENEW_AT: Final = 2 / 3
"""The part of its validity after which a certificate is renewed."""

JITTER: Final = 0.05
"""The largest part of the validity by which a renewal is late, so that servers spread theirs."""

FIRST_DELAY: Final = 300.0
LONGEST_DELAY: Final = 24 * 3600.0
"""Seconds after a failed attempt; the delay doubles with each further one.

Let's Encrypt permits five failures an hour for a domain.
"""

SHORTEST_LIFE: Final = 3600.0
"""Minimum seconds between two successful attempts."""


_LONGEST_NAME: Final = 100
"""Characters of a domain in the name of a file."""


class Issued(NamedTuple):
    """A certificate with its key."""

    chain: bytes
    key: bytes
    begin: float
    end: float
    """The times of day between which it is valid, in seconds since 1970."""

    @property
    def is_expired(self) -> bool:
        """Whether clients refuse it."""
        return time.time() >= self.end  # time of day: the certificate states it


class AcmeCertificate:
    """One certificate, shared by all server blocks and generations with its settings."""

    _known: ClassVar[WeakValueDictionary[AcmeSettings, AcmeCertificate]] = WeakValueDictionary()

    def __init__(self, settings: AcmeSettings) -> None:
        """Read the certificate that is stored for the settings, if any."""
        self.settings = settings
        self.problem = ""
        self.issued: Issued | None = None
        self.fingerprint = b""
        domain = settings.domains[0].replace("*", "wildcard")[:_LONGEST_NAME]
        name = f"{domain}-{settings.identity.hex()[:16]}"
        self._path = settings.storage / "certificates" / f"{name}.json"
        self._attempts = settings.storage / "attempts" / f"{name}.json"
        self._account = settings.storage / "accounts" / f"{_digest(settings.ca)}.json"
        self._version: FileVersion | None = None
        self._jitter = JITTER * secrets.randbelow(1000) / 1000
        self._users = 0
        self._task: asyncio.Task[None] | None = None
        self.load()

    @classmethod
    def of(cls, settings: AcmeSettings) -> AcmeCertificate:
        """Return the certificate for settings, also that of an earlier generation."""
        found = cls._known.get(settings)
        if found is None:
            found = cls._known[settings] = cls(settings)
        return found

    def load(self) -> None:
        """Use the stored certificate if there is another one."""
        version = file_version(self._path)
        if version is None or version == self._version:
            return
        stored = read_json(self._path)
        try:
            issued = Issued(
                stored["chain"].encode("ascii"),
                stored["key"].encode("ascii"),
                float(stored["begin"]),
                float(stored["end"]),
            )
            create_context(Material(issued.chain, issued.key), ClientAuth.NONE)
        except OSError:
            return  # the process is out of descriptors; the next look comes soon
        except (AttributeError, KeyError, TypeError, ValueError):
            self._version = version
            LOG.error("%s is damaged", self._path)
            return
        self._version = version
        self.issued = issued
        self.fingerprint = hashlib.sha256(issued.chain + issued.key).digest()

    def use(self, *, leads: bool) -> None:
        """Keep the certificate up to date until `release`; with `leads`, order and renew it."""
        self._users += 1
        if self._task is None:
            name = f"ACME {self.settings.domains[0]}"
            self._task = asyncio.create_task(self._run(leads=leads), name=name)

    async def release(self) -> None:
        """End the work for one user; after the last one, cancel an order."""
        self._users -= 1
        if not self._users and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait([task])  # it removes its challenges

    async def _run(self, *, leads: bool) -> None:
        while True:
            with reported("tls", f"the certificate {self._path} cannot be checked"):
                await in_thread(self.load)
                if leads and await in_thread(self.seconds_until_due) <= 0:
                    await self._attempt()
            await asyncio.sleep(INTERVAL if self.issued else min(INTERVAL, FIRST_INTERVAL))

    def seconds_until_due(self) -> float:
        """Return the seconds until a certificate is ordered; not positive if it is due."""
        now = time.time()  # time of day: certificates state it
        due, issued = now, self.issued
        if issued is not None:
            life = issued.end - issued.begin
            due = issued.begin + life * RENEW_AT + life * self._jitter
        state = read_json(self._attempts)
        try:
            not_before = min(float(state["not_before"]), now + LONGEST_DELAY)
        except (KeyError, TypeError, ValueError):
            not_before = 0.0
        return max(due, not_before) - now

    async def _attempt(self) -> None:
        """Order a certificate unless another process is doing so."""
        try:
            held = await in_thread(lambda: lock(self.settings.storage))
            if held is None:
                return
            try:
                await in_thread(self.load)
                if await in_thread(self.seconds_until_due) <= 0:
                    await self._order()
            finally:
                held.release()
        except OSError as error:
            problem = f"cannot use the folder {self.settings.storage}: {error.strerror}"
            if problem != self.problem:  # it is tried again every few seconds
                self._report(problem)

    async def _order(self) -> None:
        failures = 1 + await in_thread(self._failures)
        delay = min(FIRST_DELAY * 2 ** min(failures - 1, 20), LONGEST_DELAY)
        await in_thread(
            lambda: self._note(failures, delay)
        )  # before the attempt: it may be the last
        try:
            await self._obtain()
        except Exception as error:  # whatever the CA sends, the next attempt comes
            wished = getattr(error, "retry_after", 0.0)
            if wished > delay:
                await in_thread(lambda: self._note(failures, min(wished, LONGEST_DELAY)))
            self._report(describe_failure(error))
            return
        self.problem = ""
        await in_thread(lambda: self._note(0, SHORTEST_LIFE))
        await in_thread(self.load)
        LOG.info("obtained the certificate for %s", ", ".join(self.settings.domains))

    async def _obtain(self) -> None:
        """Order a certificate, and store it."""
        storage = self.settings.storage
        try:
            stored = await obtain_apart(self.settings, self._account)
        finally:
            await in_thread(lambda: write_challenges(storage, {}))
        await in_thread(lambda: write_json(self._path, stored))

    def _failures(self) -> int:
        number = read_json(self._attempts).get("failures")
        return number if isinstance(number, int) and 0 <= number < 1000 else 0

    def _note(self, failures: int, delay: float) -> None:
        until = time.time() + delay  # time of day: it has a meaning after a restart
        content: dict[str, Any] = {"failures": failures, "not_before": until}
        write_json(self._attempts, content)

    def _report(self, problem: str) -> None:
        self.problem = problem
        state = "there is none yet" if self.issued is None else "the previous one stays in use"
        domains = ", ".join(self.settings.domains)
        LOG.error(
            "no certificate for %s from %s: %s; %s", domains, self.settings.ca, problem, state
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
