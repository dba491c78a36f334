"""Orders a certificate in a process of its own (`corepy_tls.acme_order`)."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio import subprocess
from pathlib import Path
from typing import Any, Final

from corepy_tls.acme_error import AcmeError
from corepy_tls.acme_settings import AcmeSettings

PATIENCE: Final = 1000.0
"""Seconds for the process, which ends earlier by itself."""

_LONGEST_REASON: Final = 400


def job(settings: AcmeSettings, account: Path) -> bytes:
    """Return the standard input of the process."""
    root = settings.ca_root
    return json.dumps(
        {
            "account": str(account),
            "domains": settings.domains,
            "storage": str(settings.storage),
            "email": settings.email,
            "ca": settings.ca,
            "ca_root": None if root is None else str(root),
            "resolver": settings.resolver,
        }
    ).encode()


def read_job(text: bytes) -> tuple[AcmeSettings, Path]:
    """Return the settings and the file of the account that `job` has written."""
    it = json.loads(text)
    settings = AcmeSettings(
        tuple(it["domains"]),
        Path(it["storage"]),
        it["email"],
        it["ca"],
        None if it["ca_root"] is None else Path(it["ca_root"]),
        None if it["resolver"] is None else tuple(it["resolver"]),
    )
    return settings, Path(it["account"])


async def obtain_apart(settings: AcmeSettings, account: Path) -> dict[str, Any]:
    """Return what is stored of a new certificate; raises `AcmeError`, and OSError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "corepy_tls.acme_order"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, errors = await process.communicate(job(settings, account))
    except TimeoutError:
        raise AcmeError(f"the order took more than {PATIENCE:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        result: dict[str, Any] = json.loads(output)
    except ValueError:
        reason = errors.decode("utf-8", "replace").strip()[-_LONGEST_REASON:]
        raise AcmeError(reason or f"the process ended with {process.returncode}") from None
    if "problem" in result:
        raise AcmeError(result["problem"], result["retry_after"])
    return result
