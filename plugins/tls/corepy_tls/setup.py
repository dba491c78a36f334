"""Parse the *tls* directive (CoreDNS: plugin/tls/tls.go)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from corepy.plugin import TLSSetting
from corepy_tls.acme_parse import parse_acme
from corepy_tls.acme_source import AcmeSource
from corepy_tls.certificate_files import CertificateFiles, FileError, Settings
from corepy_tls.contexts import ClientAuth

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

_UNVERIFIED: Final = ("request", "require")
"""The words for certificates of clients that are asked for, but not verified."""

_PEM_HINT: Final = "such as: tls cert.pem key.pem; openssl converts files of other forms"


def setup(controller: Controller) -> None:
    """Set the certificate of the block; if it is given twice, the last one applies."""
    source: CertificateFiles | AcmeSource | None = None
    for _ in controller.occurrences():
        directive = controller.token
        assert directive is not None
        if source is not None:
            controller.warn("this certificate replaces an earlier one of the block", directive)
        arguments = controller.arguments()
        if not arguments:
            source = AcmeSource(parse_acme(controller, directive))
        else:
            source = _parse(controller, directive, arguments)
    assert source is not None
    if all(key.transport == "dns" for key in controller.config.keys):
        message = "tls has no effect: plain DNS is not encrypted"
        controller.warn(message, directive, "serve an encrypted transport, such as tls://.")
    controller.register(source)
    controller.configure(TLSSetting(source))


def _parse(controller: Controller, directive: Token, arguments: list[Token]) -> CertificateFiles:
    """Return the source for one occurrence; raises CorefileError for unusable files, too."""
    if not 2 <= len(arguments) <= 3:
        token = arguments[3] if len(arguments) > 3 else arguments[0]
        raise controller.arg_error(token, "such as: tls cert.pem key.pem [ca.pem]")
    certificate, key, *authorities = [controller.path(token).absolute() for token in arguments]
    parsed = Settings(certificate, key, authorities[0] if authorities else None)

    def client_auth() -> None:
        nonlocal parsed
        parsed = replace(parsed, client_auth=_client_auth(controller))

    def keylog() -> None:
        nonlocal parsed
        token = controller.argument("such as: keylog tls.log, a file that corepy can write")
        path = controller.path(token).absolute()
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise controller.error(f"cannot write the key log {path}", token)
        parsed = replace(parsed, key_log=path)

    def acme() -> None:
        hint = "to obtain the certificate with ACME, remove CERT and KEY"
        raise controller.error("acme cannot be combined with CERT and KEY", None, hint)

    controller.options({"client_auth": client_auth, "keylog": keylog, "acme": acme})
    if authorities and parsed.client_auth is ClientAuth.NONE:
        message = "the authorities have no effect: clients are not asked for certificates"
        controller.warn(message, arguments[2], "add in a block: client_auth require_and_verify")
    return _read(controller, parsed, arguments)


def _read(controller: Controller, parsed: Settings, arguments: list[Token]) -> CertificateFiles:
    """Return the source after its files were read; an error is at the argument of its file."""
    try:
        source = CertificateFiles(parsed)
    except OSError as error:
        raise controller.error(str(error.strerror), arguments[0]) from None
    except FileError as error:
        hint = _PEM_HINT if str(error).endswith("in PEM form") else None
        raise controller.error(
            str(error), arguments[parsed.paths.index(error.path)], hint
        ) from None
    if source.invalidity:
        controller.warn(f"{source.invalidity}, so clients refuse it", arguments[0])
    return source


def _client_auth(controller: Controller) -> ClientAuth:
    token = controller.argument("such as: client_auth require_and_verify")
    if token.text in _UNVERIFIED:
        message = f"client_auth {token.text} is not supported: Python's ssl verifies certificates"
        hint = "use verify_if_given or require_and_verify"
        raise controller.error(message, token, hint)
    words = [word.value for word in ClientAuth]
    if token.text not in words:
        message = f"unknown authentication type {token.text!r}"
        raise controller.error(message, token, f"one of {', '.join(words)}")
    return ClientAuth(token.text)
