"""The process that orders one certificate.

    python -P -m corepy_tls.acme_order

The settings are a JSON value at the standard input, and the result is one at the standard output.
In the server, the modules for keys and certificates would take 17 MB for good, for an order that is
made every two months.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from corepy_tls.acme_client import AcmeClient
from corepy_tls.acme_error import AcmeError, describe_failure
from corepy_tls.acme_http import CAConnection
from corepy_tls.acme_keys import AccountKey, new_key, signing_request, validity
from corepy_tls.acme_parse import roots_context
from corepy_tls.acme_process import read_job
from corepy_tls.challenges import write_challenges
from corepy_tls.storage import read_json, write_json

if TYPE_CHECKING:
    from corepy_tls.acme_settings import AcmeSettings

PATIENCE: Final = 900.0
"""Seconds for the whole order."""


async def obtain(settings: AcmeSettings, account: Path) -> dict[str, Any]:
    """Return what is stored of a new certificate, with its key.

    `account` is the file of the account. Raises `AcmeError` and OSError.
    """

    async def publish(proofs: dict[bytes, list[str]]) -> None:
        write_challenges(settings.storage, proofs)

    connection = CAConnection(roots_context(settings.ca_root), settings.resolver)
    client = AcmeClient(connection, settings.ca, _account_key(account))
    key = new_key()
    request = signing_request(key, settings.domains)
    async with asyncio.timeout(PATIENCE):
        chain = await client.obtain(settings.domains, request, settings.email, publish)
    try:
        begin, end = validity(chain, key, settings.domains)
        texts = {"chain": chain.decode("ascii"), "key": key.decode("ascii")}
    except (ValueError, IndexError) as error:
        raise AcmeError(f"the CA sent an unusable certificate: {error}") from None
    return {"domains": settings.domains, "begin": begin, "end": end, **texts}


def _account_key(path: Path) -> AccountKey:
    """Return the stored key of the account, or a new one."""
    stored = read_json(path).get("key")
    if isinstance(stored, str):
        try:
            return AccountKey(stored.encode("ascii", "replace"))
        except ValueError as error:
            raise AcmeError(f"{path}: the key of the account is damaged: {error}") from None
    pem = new_key()
    write_json(path, {"key": pem.decode("ascii")})
    return AccountKey(pem)


def main() -> None:
    """Order the certificate, and print the result."""
    settings, account = read_job(sys.stdin.buffer.read())
    result: dict[str, Any]
    try:
        result = asyncio.run(obtain(settings, account))
    except Exception as error:  # whatever the CA sends, the log gets a reason
        result = {
            "problem": describe_failure(error),
            "retry_after": getattr(error, "retry_after", 0.0),
        }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
