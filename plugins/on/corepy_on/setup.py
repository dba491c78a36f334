"""Parse the *on* directive (caddy: onevent/on.go). It runs nothing: see `events`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from corepy.plugin import Mistakes, suggest
from corepy_on.command import Command
from corepy_on.events import EventCommands
from corepy_on.splitting import split_command

if TYPE_CHECKING:
    from corepy.plugin import Controller

EVENTS: Final = ("startup", "shutdown", "certrenew")
_BACKGROUND: Final = "&"


def setup(controller: Controller) -> None:
    """Register the commands of the block; each occurrence is one command."""
    commands, mistakes = list[Command](), Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            commands.append(_read_command(controller))
    mistakes.settle()
    controller.register(EventCommands(commands))


def _read_command(controller: Controller) -> Command:
    event = controller.next_argument()
    if event.text.lower() not in EVENTS:
        near = suggest(event.text.lower(), EVENTS)
        hint = f"did you mean {near!r}?" if near else f"events: {', '.join(EVENTS)}"
        raise controller.error(f"unknown event {event.text!r}", event, hint)
    tokens = controller.arguments(1)
    try:
        # As in Caddy, the quotes of the Corefile are gone, and the words are split anew.
        words = split_command(" ".join(token.text for token in tokens))
    except ValueError as error:
        raise controller.error(f"cannot split the command: {error}", tokens[0]) from None
    in_background = words[-1:] == [_BACKGROUND]
    if in_background:
        words.pop()
    if not words or not words[0]:
        hint = "write a program and its arguments after the event"
        raise controller.error("the command is missing", tokens[0], hint)
    if controller.checking and shutil.which(words[0]) is None:
        controller.warn(f"the program {words[0]!r} is not found or not executable", tokens[0])
    if event.text.lower() == "certrenew":
        controller.warn("the command never runs: corepy renews no certificates", event)
    return Command(event.text.lower(), tuple(words), in_background)
