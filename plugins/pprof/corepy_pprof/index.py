"""The page /debug/pprof/: which profiles there are."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DESCRIPTIONS: Final = {
    "allocs": "The same as heap: the memory that is freed is not recorded.",
    "block": "Where the event loop was kept from turning; needs the option <i>block</i>.",
    "cmdline": "The command line of this process, its words separated by NUL.",
    "goroutine": "Stacks of all threads and tasks; debug=2 lists them one by one.",
    "heap": "Memory that was allocated during the request and is still in use; with the option "
    "<i>heap</i>, since the start. gc=1 collects garbage first.",
    "mutex": "Always empty: locks of threads are not recorded.",
    "profile": "CPU profile of the next 30 seconds, or seconds=N.",
    "symbol": "Addresses and names; profiles contain the names already.",
    "threadcreate": "The threads of the process, by the function that each one runs.",
    "trace": "CPU samples of the next second, or seconds=N, in the order of time: a file for "
    "speedscope.",
}

_TEXT: Final = frozenset({"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"})

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>/debug/pprof/</title></head>
<body>
<h1>/debug/pprof/</h1>
<p>{process}</p>
<table>
<tr><th>Count</th><th>Profile</th><th></th></tr>
{rows}</table>
<p><a href="goroutine?debug=2">all threads and tasks</a></p>
<p>With debug=1 the profiles are text.</p>
</body>
</html>
"""


def page(counts: Mapping[str, int], process: str) -> str:
    """Return the page; `counts` has the numbers of samples that are known without measuring."""
    rows = "".join(
        f"<tr><td>{counts.get(name, '')}</td><td>{_link(name)}</td><td>{text}</td></tr>\n"
        for name, text in DESCRIPTIONS.items()
    )
    return _PAGE.format(process=escape(process), rows=rows)


def _link(name: str) -> str:
    return f'<a href="{name}{"?debug=1" if name in _TEXT else ""}">{name}</a>'
