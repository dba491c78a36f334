"""One order: account, keys, the exchange with the CA, and the result to be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy.plugin import in_thread
from corepy_tls.acme_client import AcmeClient, AcmeError
from corepy_tls.acme_http import CAConnection
from corepy_tls.acme_keys import AccountKey, new_key, signing_request, validity
from corepy_tls.acme_parse import roots_context
from corepy_tls.storage import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from corepy_tls.acme_client import Publish
    from corepy_tls.acme_settings import AcmeSettings


async def obtain(settings: AcmeSettings, account: Path, publish: Publish) -> dict[str, Any]:
    """Return what is stored of a new certificate, with its key.

    `account` is the file of the account. Raises `AcmeError`, OSError, and ValueError for a
    certificate that is not the one ordered.
    """
    account_key = await in_thread(lambda: _account_key(account))
    tls = await in_thread(lambda: roots_context(settings.ca_root))  # reads many files
    client = AcmeClient(CAConnection(tls, settings.resolver), settings.ca, account_key)
    key = new_key()
    request = signing_request(key, settings.domains)
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
