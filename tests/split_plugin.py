"""A plugin that adds filters: `split VIEW CONDITION WORD`, with "-" for no view.

It is what a third party writes: it uses nothing but `corepy.plugin`. Tests use it in the process
(`corepy.testing.inline`) and installed (`corepy.testing.install`).
"""

from collections.abc import Callable

from corepy.plugin import Cacheability

api_version = 1

calls: list[tuple[str, str, str, str]] = []
"""Condition, word, name and zone of each call of a filter."""

during: list[Callable[[], object]] = []
"""What the condition "notes" calls."""


def fail(request, word):
    """Fail in a way that the word names."""
    if word == "exit":
        raise SystemExit(3)
    if word == "coroutine":
        return wait()
    if word == "none":
        return None
    raise ValueError("this filter is broken")


async def wait():
    return True


def note(request, word):
    """Call what the test wants to be called inside of a filter."""
    for function in during:
        function()
    return True


CONDITIONS = {
    "from": (lambda request, word: request.remote[0] == word, Cacheability.UNSAFE),
    "name": (lambda request, word: request.name.startswith(word), Cacheability.SAFE),
    "proto": (lambda request, word: request.context.network == word, Cacheability.SAFE),
    "family": (
        lambda request, word: request.family == int(word), Cacheability.DEPENDS_ON_FAMILY,
    ),
    "at": (
        lambda request, word: request.local_address[0] == word,
        Cacheability.DEPENDS_ON_LOCAL_ADDRESS,
    ),
    "label": (
        lambda request, word: request.metadata.get(word.partition("=")[0]) == word.partition("=")[2],
        Cacheability.UNSAFE,
    ),
    "fails": (fail, Cacheability.UNSAFE),
    "notes": (note, Cacheability.UNSAFE),
}  # fmt: skip


def setup(controller):
    for _ in controller.occurrences():
        view, condition, word = (token.text for token in controller.arguments(3, 3))
        function, cacheability = CONDITIONS[condition]

        def passes(request, function=function, word=word, condition=condition):
            calls.append((condition, word, request.name, request.context.zone))
            return function(request, word)

        controller.add_filter(
            passes,
            view="" if view == "-" else view,
            cacheability=cacheability,
            is_about_question=condition == "name",
        )
