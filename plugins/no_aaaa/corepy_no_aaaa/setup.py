"""Parse the *no_aaaa* directive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy_no_aaaa.no_aaaa import NoAAAA

if TYPE_CHECKING:
    from corepy.plugin import Controller

EXCEPT: Final = "except"


def setup(controller: Controller) -> None:
    """Add the handler for `no_aaaa [except ZONES...]`; the directive may be used once."""
    zones: list[str] = []
    for _ in controller.single("name all zones in one directive: no_aaaa except ZONES..."):
        words = controller.remaining_tokens()
        if words:
            if words[0].text != EXCEPT:
                hint = "write: no_aaaa except example.org"
                message = f"{words[0].text!r} is not {EXCEPT!r}"
                raise controller.error(message, words[0], hint)
            if len(words) == 1:
                hint = "name the zones whose AAAA records clients may have"
                raise controller.error("except without a zone", words[0], hint)
            for word in words[1:]:
                zones += controller.zones_of(word)
                if "." in zones:
                    controller.warn("no_aaaa has no effect: all names are excepted", word)
        while controller.next_block():
            hint = "the zones are on the line of the directive: no_aaaa except example.org"
            raise controller.error(f"unknown option {controller.val!r}", hint=hint)
    controller.add_handler(NoAAAA(zones))
