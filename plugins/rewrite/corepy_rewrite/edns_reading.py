"""Parse the rules for EDNS options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from corepy.dns import FormError
from corepy.dns.edns import OPTION_NSID, OPTION_SUBNET, check_options, option
from corepy.plugin import suggest
from corepy_rewrite.edns import ACTIONS, UNSET, OptionRemoval, OptionRule, constant
from corepy_rewrite.values import VARIABLES, metadata_value, subnet_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.plugin import Controller, Token
    from corepy_rewrite.edns import Value
    from corepy_rewrite.rules import Rule

_USAGES: Final[Mapping[str, tuple[str, int]]] = {
    "local": ("edns0 local append|replace|set CODE DATA [revert], edns0 local unset CODE", 2),
    "nsid": ("edns0 nsid append|replace|set [revert], edns0 nsid unset", 0),
    "subnet": ("edns0 subnet append|replace|set BITS BITS [revert], edns0 subnet unset", 2),
}
"""For each option its usage, and the number of arguments behind the action."""

_REVERT: Final = "revert"
_MOST_CODE: Final = 0xFFFF
_MOST_DATA: Final = 60_000
"""Bytes of an option; a message has 65,535."""

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
_LABEL: Final = re.compile(r"\{[^/]+/.+\}", re.DOTALL)


def read_option_rule(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    """Parse `edns0 OPTION ACTION ...`."""
    if len(words) < 2:
        hint = "; ".join(usage for usage, _ in _USAGES.values())
        raise controller.error(f"too few arguments for {field.text}", (field, *words)[-1], hint)
    kind, action = (_known(controller, words[0], _USAGES), _known(controller, words[1], ACTIONS))
    if action == UNSET:
        return _removal(controller, kind, words)
    reverts = words[-1].text == _REVERT
    arguments = words[2:-1] if reverts else words[2:]
    usage, number = _USAGES[kind]
    if len(arguments) != number:
        raise _count_error(controller, kind, words, arguments[number:], usage)
    if kind == "nsid":
        if controller.sibling("forward"):
            hint = "remove it: an NSID option is for the next server only (RFC 5001 section 2.1)"
            controller.warn("this rule has no effect: forward sends no NSID option", words[0], hint)
        return OptionRule(action, OPTION_NSID, constant(b""), reverts=reverts)
    if kind == "subnet":
        bits = (
            _bits(controller, word, most) for word, most in zip(arguments, (32, 128), strict=True)
        )
        # A reply may only have the subnet of the client's query (RFC 7871 sections 7.2.1 and 7.3).
        return OptionRule(action, OPTION_SUBNET, subnet_value(*bits), reverts=True)
    code = _code(controller, arguments[0])
    value = _value(controller, code, arguments[1])
    return OptionRule(action, code, value, reverts=reverts, is_local=True)


def _removal(controller: Controller, kind: str, words: Sequence[Token]) -> Rule:
    usage, _ = _USAGES[kind]
    number = 1 if kind == "local" else 0
    arguments = words[2:]
    if len(arguments) != number:
        raise _count_error(controller, kind, words, arguments[number:], usage)
    if kind == "local":
        return OptionRemoval(_code(controller, arguments[0]))
    return OptionRemoval(OPTION_NSID if kind == "nsid" else OPTION_SUBNET)


def _known(controller: Controller, word: Token, known: Sequence[str] | Mapping[str, object]) -> str:
    text = word.text.lower()
    if text not in known:
        near = suggest(text, list(known))
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
        what = "action" if known is ACTIONS else "option"
        raise controller.error(f"unknown {what} {word.text!r}", word, hint)
    return text


def _count_error(
    controller: Controller,
    kind: str,
    words: Sequence[Token],
    surplus: Sequence[Token],
    usage: str,
) -> Exception:
    message = f"too {'many' if surplus else 'few'} arguments for edns0 {kind}"
    return controller.error(message, surplus[0] if surplus else words[-1], usage)


def _integer(text: str, most: int) -> int | None:
    """Return a number in Go's notation with prefixes, None above `most` (strconv.ParseUint)."""
    if not _NUMBER.fullmatch(text):
        return None
    if len(text) > 1 and text[0] == "0" and text[1].isdigit():
        text = f"0o{text}"
    number = int(text, 0) if len(text) < 32 else most + 1
    return number if number <= most else None


def _code(controller: Controller, word: Token) -> int:
    code = _integer(word.text, _MOST_CODE)
    if code is None:
        hint = f"a number up to {_MOST_CODE}, such as 0xffee"
        raise controller.error(f"invalid option code {word.text!r}", word, hint)
    return code


def _bits(controller: Controller, word: Token, most: int) -> int:
    bits = _integer(word.text, most)
    if bits is None:
        version = "IPv4" if most == 32 else "IPv6"
        hint = f"a number of bits up to {most}"
        raise controller.error(f"invalid {version} prefix length {word.text!r}", word, hint)
    return bits


def _value(controller: Controller, code: int, word: Token) -> Value:
    """Parse the data of an option: a variable, hexadecimal digits behind 0x, or text."""
    text = word.text
    if text.startswith("{") and text.endswith("}"):
        if text in VARIABLES:
            return VARIABLES[text]
        if _LABEL.fullmatch(text):
            controller.reads_label(text[1:-1], word)
            return metadata_value(text[1:-1])
        near = suggest(text, list(VARIABLES))
        known = f"{', '.join(VARIABLES)}, and metadata such as {{plugin/label}}"
        hint = f"did you mean {near!r}?" if near else f"known: {known}"
        raise controller.error(f"unknown variable {text!r}", word, hint)
    data = text.encode("utf-8", "surrogateescape")
    if text.startswith("0x"):
        if not _HEX.fullmatch(text[2:]):
            hint = "an even number of hexadecimal digits behind 0x, or a text"
            raise controller.error(f"invalid hexadecimal data {text!r}", word, hint)
        data = bytes.fromhex(text[2:])
    if len(data) > _MOST_DATA:
        raise controller.error(f"option data of {len(data)} bytes, at most {_MOST_DATA}", word)
    try:
        check_options(option(code, data))
    except FormError:
        controller.warn(f"queries get SERVFAIL: {text!r} is not valid for option {code}", word)
    return constant(data)
