"""Parse the *tsig* directive (CoreDNS: plugin/tsig/setup.go).

The tokens with secrets are hidden before anything can show their line.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import OPCODES, TYPES
from corepy.dns.names import to_text
from corepy.plugin import CorefileError, Diagnostic, TSIGKeys, suggest
from corepy_tsig.keys import (
    BASE64_HINT,
    KNOWN_ALGORITHMS,
    FileError,
    InvalidKey,
    Key,
    read_algorithm,
    read_file,
    read_name,
    read_secret,
)
from corepy_tsig.tsig import EveryNumber, TSIGHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from corepy.plugin import Controller, Token

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of the largest file of keys."""

_LINE: Final = "secret NAME KEY [ALGORITHM]"

_WITHOUT_SECRETS: Final = ("secrets", "require", "require_opcode", "refuse_earlier")
"""The options whose arguments a message may show."""


@dataclass(slots=True)
class Settings:
    """The options of the directive."""

    keys: dict[bytes, Key] = field(default_factory=dict)
    tokens: dict[bytes, Token] = field(default_factory=dict)
    types: Container[int] = ()
    opcodes: Container[int] = ()
    refuses_earlier: bool = False


def setup(controller: Controller) -> None:
    """Add the handler, and store the keys for the listeners and for other plugins."""
    settings = Settings()
    zones: list[str] = []
    _hide_secrets(controller)
    for _ in controller.single():
        directive = controller.token
        zones = controller.zones_from(controller.remaining_tokens())
        controller.options(_options(controller, settings))
        if not settings.keys and not controller.warnings:  # of a file without keys
            hint = f"define the keys of the clients: {_LINE}, or secrets FILE"
            controller.warn("tsig without a key verifies no signature", directive, hint)
    keys = settings.keys
    controller.configure(
        TSIGKeys(
            {name: key.secret for name, key in keys.items()},
            settings.tokens,
            {name: key.algorithm for name, key in keys.items() if key.algorithm is not None},
            settings.refuses_earlier,
        )
    )
    controller.add_handler(TSIGHandler(zones, settings.types, settings.opcodes))


def _hide_secrets(controller: Controller) -> None:
    """Hide all words that may be a secret, also behind a misspelled option."""
    tokens = controller.sibling(controller.directive)
    for _, line in itertools.groupby(tokens, key=lambda it: (it.source.name, it.line)):
        first, *rest = line
        if first.text == controller.directive:
            rest = list(itertools.dropwhile(lambda it: it.text != "{", rest))[1:]
        if first.text == "secret" and len(rest) > 1 and _is_secret(rest[1].text):
            del rest[0]
        if first.text not in _WITHOUT_SECRETS:
            for token in rest:
                token.hide()


def _is_secret(text: str) -> bool:
    try:
        read_secret(text)
    except InvalidKey:
        return False
    return True


def _options(controller: Controller, settings: Settings) -> Mapping[str, Callable[[], None]]:
    return {
        "secret": lambda: _secret(controller, settings),
        "secrets": lambda: _secrets(controller, settings),
        "require": lambda: setattr(settings, "types", _numbers(controller, TYPES, "query type")),
        "require_opcode": lambda: setattr(
            settings, "opcodes", _numbers(controller, OPCODES, "opcode")
        ),
        "refuse_earlier": lambda: _refuse_earlier(controller, settings),
    }


def _secret(controller: Controller, settings: Settings) -> None:
    option = controller.token
    words = controller.remaining_tokens()
    if not 2 <= len(words) <= 3:
        raise controller.error("secret needs the name of a key and its secret", option, _LINE)
    name, secret, *rest = words
    algorithm = None
    at, hint = name, ""
    try:
        key_name = read_name(name.text)
        at, hint = secret, BASE64_HINT
        value = read_secret(secret.text)
        for at in rest:
            hint = f"known: {', '.join(KNOWN_ALGORITHMS)}"
            algorithm = read_algorithm(at.text)
    except InvalidKey as error:
        raise controller.error(str(error), at, hint or None) from None
    _add(settings, Key(key_name, value, algorithm), name)


def _secrets(controller: Controller, settings: Settings) -> None:
    token = controller.argument()
    path = Path(token.text)
    try:
        if path.stat().st_size > LARGEST:
            raise controller.error(f"the file {token.text!r} is too large", token)
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        reason = getattr(error, "strerror", None) or error
        message = f"cannot read the file of keys {token.text!r}: {reason}"
        raise controller.error(message, token) from None
    controller.watch_file(path.absolute())
    try:
        keys, warnings = read_file(content)
    except FileError as error:
        raise controller.error(f"{path}:{error}", token) from None
    for warning in warnings:
        controller.warn(f"{path}:{warning}", token)
    if not keys:
        controller.warn(f"the file {token.text!r} has no keys", token)
    for key in keys:
        _add(settings, key, token)


def _add(settings: Settings, key: Key, token: Token) -> None:
    other = settings.tokens.get(key.name)
    if other is not None:
        message = f"key {to_text(key.name)!r} redefined"
        raise CorefileError(Diagnostic(message, token, related=(("it is defined here", other),)))
    settings.keys[key.name] = key
    settings.tokens[key.name] = token


def _numbers(controller: Controller, table: Mapping[str, int], kind: str) -> Container[int]:
    """Return the numbers of the words on the line; the first one may be all or none."""
    words = controller.arguments(1)
    first, *rest = words
    if first.text in ("all", "none"):
        if rest:
            controller.warn(f"{rest[0].text!r} is ignored: {first.text} is before it", rest[0])
        return EveryNumber() if first.text == "all" else frozenset()
    numbers = set()
    for word in words:
        number = table.get(word.text)
        if number is None:
            upper = word.text.upper()
            near = upper if upper in table else suggest(upper, list(table))
            hint = f"did you mean {near!r}?" if near else None
            raise controller.error(f"unknown {kind} {word.text!r}", word, hint)
        numbers.add(number)
    return frozenset(numbers)


def _refuse_earlier(controller: Controller, settings: Settings) -> None:
    controller.arguments(0, 0)
    settings.refuses_earlier = True
