"""Draws the path of a query into docs/img/query.svg.

Run it after a change: `python tools/draw_query.py`. Each box may name the file that implements it.
A test checks that the picture is the output of this program and that the files exist. The output is
plain SVG: the page needs no third-party script, and the picture is the same on the site, in an
editor and in a repository browser.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs/img/query.svg"
WIDTH, HEIGHT = 760, 872
STYLE = """\
text { font: 14px sans-serif; fill: #222; text-anchor: middle }
.small { font-size: 12px; fill: #555 }
.file { font: 11px monospace; fill: #666 }
.box { fill: #f4f7f7; stroke: #5b7d7a; rx: 6 }
.outer { fill: #fbfcfc; stroke: #9db5b3; stroke-dasharray: 5 4; rx: 8 }
.outside { fill: #fff7e6; stroke: #b08a3c; rx: 18 }
.line { fill: none; stroke: #777; stroke-width: 1.5 }
.line.hot { stroke: #00796b; stroke-width: 3 }
.line.late { stroke: #b05c00; stroke-dasharray: 6 4 }
.tip { fill: #777 } .tip.hot { fill: #00796b } .tip.late { fill: #b05c00 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e6e6 } .small { fill: #b5b5b5 } .file { fill: #9a9a9a }
  .box { fill: #26323a; stroke: #6fa39e } .outer { fill: #1d262d; stroke: #54706d }
  .outside { fill: #3a3322; stroke: #c9a557 }
  .line { stroke: #a0a0a0 } .line.hot { stroke: #4db6ac } .line.late { stroke: #e0964a }
  .tip { fill: #a0a0a0 } .tip.hot { fill: #4db6ac } .tip.late { fill: #e0964a }
}
"""


class Box(NamedTuple):
    """A component that a query passes."""

    x: int
    y: int
    width: int
    title: str
    about: str = ""
    file: str = ""
    kind: str = "box"
    height: int = 64


class Line(NamedTuple):
    """An arrow between two boxes, through the given corners."""

    points: tuple[tuple[int, int], ...]
    label: str = ""
    at: tuple[int, int] = (0, 0)
    kind: str = ""


BOXES = (
    Box(250, 10, 200, "client", kind="outside", height=36),
    Box(
        210, 84, 280, "UDP socket", "up to 64 queries with one recvmmsg", "corepy/net/datagrams.py"
    ),
    Box(
        210,
        186,
        280,
        "packet cache",
        "the same bytes as before, but for the ID?",
        "corepy/server/listen/packet_cache.py",
    ),
    Box(
        210,
        288,
        280,
        "queue",
        "64 in a turn of the loop, 1024 at most",
        "corepy/server/listen/udp.py",
    ),
    Box(210, 380, 280, "accept", "a Request, a refusal, or silence", "corepy/dns/accept.py"),
    Box(
        210, 466, 280, "router", "the block with the longest zone", "corepy/server/listen/router.py"
    ),
    Box(
        30,
        564,
        480,
        "chain: asked at once, goes on when called back",
        "",
        "corepy/server/listen/chain_runner.py",
        "outer",
        150,
    ),
    Box(52, 622, 80, "log", height=34),
    Box(172, 622, 80, "cache", height=34),
    Box(382, 622, 110, "forward", height=34),
    Box(372, 776, 130, "upstream", kind="outside", height=36),
    Box(540, 420, 200, "observing handlers", "", "corepy/server/listen/pipeline.py", "outer", 96),
    Box(552, 470, 70, "errors", height=34),
    Box(630, 470, 98, "prometheus", height=34),
    Box(540, 300, 200, "finish", "ID, OPT, the client's size", "corepy/dns/reply.py"),
    Box(540, 84, 200, "send", "one sendmmsg a batch", "corepy/net/datagrams.py"),
)
LINES = (
    Line(((350, 46), (350, 84)), "query", (378, 70), "hot"),
    Line(((350, 148), (350, 186)), "", (0, 0), "hot"),
    Line(((490, 212), (600, 212), (600, 148)), "yes", (545, 206), "hot"),
    Line(((350, 250), (350, 288)), "no", (366, 274)),
    Line(((350, 352), (350, 380))),
    Line(((350, 444), (350, 466))),
    Line(((350, 530), (350, 548), (16, 548), (16, 639), (52, 639))),
    Line(((132, 639), (172, 639))),
    Line(((252, 639), (382, 639)), "miss", (315, 632)),
    Line(((455, 656), (455, 776)), "", (0, 0), "late"),
    Line(((419, 776), (419, 656)), "in a later turn of the loop", (328, 754), "late"),
    Line(((510, 612), (610, 612), (610, 516)), "ready at once", (558, 604)),
    Line(((510, 682), (690, 682), (690, 516)), "after a wait", (566, 674), "late"),
    Line(((640, 420), (640, 364))),
    Line(((640, 300), (640, 148))),
    Line(((540, 332), (516, 332), (516, 238), (490, 238)), "kept", (534, 290)),
    Line(((640, 84), (640, 28), (450, 28)), "reply", (560, 20), "hot"),
)


def draw() -> str:
    """Return the picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>How a query travels through corepy</title>",
        f"<style>{STYLE}</style>",
        *(_box(box) for box in BOXES),
        *(_line(line) for line in LINES),
        _key(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(box: Box) -> str:
    middle, y = box.x + box.width // 2, box.y + 22
    texts = [_text(middle, y, box.title)]
    if box.about:
        y += 18
        texts.append(_text(middle, y, box.about, "small"))
    if box.file:
        texts.append(_text(middle, y + 16, box.file, "file"))
    place = f'x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}"'
    frame = f'<rect class="{box.kind}" {place}/>'
    return "\n".join([frame, *texts])


def _line(line: Line) -> str:
    points = " ".join(f"{x},{y}" for x, y in line.points)
    parts = [f'<polyline class="line {line.kind}" points="{points}"/>', _tip(line)]
    if line.label:
        parts.append(_text(*line.at, line.label, "small"))
    return "\n".join(parts)


def _tip(line: Line) -> str:
    """Return the head of the arrow; lines are horizontal or vertical."""
    (x0, y0), (x, y) = line.points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    back_x, back_y = x - 9 * dx, y - 9 * dy
    corners = f"{x},{y} {back_x + 5 * dy},{back_y + 5 * dx} {back_x - 5 * dy},{back_y - 5 * dx}"
    return f'<polygon class="tip {line.kind}" points="{corners}"/>'


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def _key() -> str:
    rows = (("hot", "seen before"), ("", "not seen before"), ("late", "waits for others"))
    parts = []
    for number, (kind, label) in enumerate(rows):
        x = 60 + 230 * number
        parts.append(f'<polyline class="line {kind}" points="{x},848 {x + 40},848"/>')
        parts.append(_text(x + 110, 853, label, "small"))
    return "\n".join(parts)


if __name__ == "__main__":
    PICTURE.write_text(draw())
