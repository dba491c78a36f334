"""The client side of ACME: orders a certificate with DNS-01 challenges (RFC 8555)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin.errors import printable_line
from corepy_tls.acme_error import AcmeError
from corepy_tls.acme_keys import encode
from corepy_tls.acme_settings import challenge_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from corepy_tls.acme_http import CAConnection, Response
    from corepy_tls.acme_keys import AccountKey

    Publish = Callable[[dict[bytes, list[str]]], Awaitable[None]]

PATIENCE: Final = 300.0
"""Seconds for the CA to validate the challenges, and again to issue the certificate."""

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 10.0
"""Seconds between two looks at an order, unless the CA states them."""

NONCE_ATTEMPTS: Final = 10
"""Times that a request is sent whose nonce the CA refuses (RFC 8555 section 6.5)."""

_ERRORS: Final = "urn:ietf:params:acme:error:"
_LONGEST_REASON: Final = 400


class AcmeClient:
    """An account at a CA. Methods raise `AcmeError`, and OSError if the CA cannot be reached."""

    def __init__(self, connection: CAConnection, directory: str, key: AccountKey) -> None:
        """`directory` is the URL of the CA's directory, `key` that of the account."""
        self._connection = connection
        self._url = directory
        self._key = key
        self._directory: dict[str, Any] = {}
        self._account = ""
        self._nonce = ""

    async def obtain(
        self, domains: Sequence[str], request: bytes, email: str, publish: Publish
    ) -> bytes:
        """Return the certificate chain (PEM) for a certificate request (DER).

        `publish` makes the proofs available by the wire names at which the CA looks for them.
        """
        await self._register(email)
        identifiers = [{"type": "dns", "value": domain} for domain in domains]
        response = await self._post(self._resource("newOrder"), {"identifiers": identifiers})
        order_url, order = response.headers.get("location", ""), _object(response)
        await self._authorize([str(it) for it in order.get("authorizations", ())], publish)
        await self._until(order_url, "ready", "valid")
        await self._post(str(order.get("finalize", "")), {"csr": encode(request)})
        issued = await self._until(order_url, "valid")
        chain = await self._post(str(issued.get("certificate", "")), None)
        return chain.body

    async def _register(self, email: str) -> None:
        """Create the account, or find the one that the key has."""
        directory = await self._connection.request("GET", self._url)
        self._directory = _object(_accepted(directory))
        contact = {"contact": [f"mailto:{email}"]} if email else {}
        payload = {"termsOfServiceAgreed": True, **contact}
        self._account = ""
        response = await self._post(self._resource("newAccount"), payload)
        self._account = response.headers.get("location", "")

    def _resource(self, name: str) -> str:
        url = self._directory.get(name)
        if not isinstance(url, str):
            raise AcmeError(f"the directory {self._url} has no {name}")
        return url

    async def _authorize(self, urls: Sequence[str], publish: Publish) -> None:
        """Prove the control of the domains that are not proved yet."""
        proofs: dict[bytes, list[str]] = {}
        challenges: list[str] = []
        for url in urls:
            authorization = _object(await self._post(url, None))
            if authorization.get("status") != "valid":
                name, proof, challenge = self._challenge(authorization)
                proofs.setdefault(name, []).append(proof)
                challenges.append(challenge)
        if not challenges:
            return
        await publish(proofs)
        for challenge in challenges:
            await self._post(challenge, {})
        for url in urls:
            await self._until(url, "valid")

    def _challenge(self, authorization: dict[str, Any]) -> tuple[bytes, str, str]:
        """Return the wire name, the proof and the URL of the challenge of an authorization."""
        try:
            domain = authorization["identifier"]["value"]
            found = next(it for it in authorization["challenges"] if it["type"] == "dns-01")
            return challenge_name(domain), self._key.proof(found["token"]), found["url"]
        except (KeyError, TypeError, ValueError, StopIteration):
            raise AcmeError("the CA offers no usable DNS-01 challenge") from None

    async def _until(self, url: str, *states: str) -> dict[str, Any]:
        """Return an order or an authorization when it is in one of `states`."""
        pause = FIRST_PAUSE
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    response = await self._post(url, None)
                    found = _object(response)
                    if found.get("status") in states:
                        return found
                    if found.get("status") not in ("pending", "processing", "ready"):
                        raise AcmeError(_reason_of(found))
                    await asyncio.sleep(min(_retry_after(response) or pause, LONGEST_PAUSE))
                    pause = min(2 * pause, LONGEST_PAUSE)
        except TimeoutError:
            raise AcmeError(f"the CA did not finish within {PATIENCE:g} s") from None

    async def _post(self, url: str, payload: dict[str, Any] | None) -> Response:
        """Send a signed request; None as payload asks for the resource (POST-as-GET)."""
        body = b"" if payload is None else json.dumps(payload).encode()
        for _ in range(NONCE_ATTEMPTS):
            who = {"kid": self._account} if self._account else {"jwk": self._key.jwk}
            signed = self._key.sign(body, nonce=await self._next_nonce(), url=url, **who)
            response = await self._connection.request("POST", url, signed, "application/jose+json")
            self._nonce = response.headers.get("replay-nonce", "")
            if response.status != 400 or _problem(response).get("type") != f"{_ERRORS}badNonce":
                break
        return _accepted(response)

    async def _next_nonce(self) -> str:
        nonce, self._nonce = self._nonce, ""
        if not nonce:
            response = await self._connection.request("HEAD", self._resource("newNonce"))
            nonce = response.headers.get("replay-nonce", "")
        return nonce


def _accepted(response: Response) -> Response:
    """Return a successful response; raise `AcmeError` with the reason of another one."""
    if 200 <= response.status < 300:
        return response
    problem = _problem(response)
    kind = str(problem.get("type", "")).removeprefix(_ERRORS)
    reason = printable_line(f"{kind}: {problem.get('detail', '')}".strip(": "), _LONGEST_REASON)
    raise AcmeError(f"status {response.status} {reason}".strip(), _retry_after(response))


def _problem(response: Response) -> dict[str, Any]:
    try:
        return _object(response)
    except AcmeError:
        return {}


def _object(response: Response) -> dict[str, Any]:
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AcmeError("the response of the CA is not a JSON object")
    return found


def _reason_of(found: dict[str, Any]) -> str:
    """Return the reason why an order or an authorization is invalid."""
    challenges = found.get("challenges")
    parts = [found, *(challenges if isinstance(challenges, list) else ())]
    errors = [it.get("error") for it in parts if isinstance(it, dict)]
    details = [str(it.get("detail")) for it in errors if isinstance(it, dict)]
    reason = f"{found.get('status')}: {'; '.join(details) or 'without a reason'}"
    return printable_line(reason, _LONGEST_REASON)


def _retry_after(response: Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 7 else 0.0
