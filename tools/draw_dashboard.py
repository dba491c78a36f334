"""Draws the layout of the Grafana dashboard into docs/img/dashboard.svg: panels, titles, kinds.

Run it after a change of the dashboard; it needs matplotlib (`make bench` installs it):

    python tools/draw_dashboard.py
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parent.parent
COLUMNS = 24
COLOURS = {
    "stat": "#dceefb",
    "timeseries": "#e8f5e9",
    "heatmap": "#fff3e0",
    "state-timeline": "#f3e5f5",
}


def draw(dashboard: Path, picture: Path) -> None:
    """Draw `dashboard` (JSON) into `picture` (SVG); the output is reproducible."""
    panels = json.loads(dashboard.read_text())["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    mpl.rcParams["svg.hashsalt"] = "corepy"
    figure, axes = plt.subplots(figsize=(10, height * 0.17))
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(height, 0)
    axes.axis("off")
    for panel in panels:
        _draw_panel(axes, panel)
    figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def _draw_panel(axes: Axes, panel: dict[str, object]) -> None:
    place = panel["gridPos"]
    assert isinstance(place, dict)
    x, y, width, height = (place[key] for key in "xywh")
    title, kind = str(panel["title"]), str(panel["type"])
    if kind == "row":
        axes.text(0.1, y + 0.7, title, fontsize=11, weight="bold", va="center")
        return
    colour = COLOURS.get(kind, "#eeeeee")
    box = FancyBboxPatch(
        (x + 0.15, y + 0.15),
        width - 0.3,
        height - 0.3,
        boxstyle="round,pad=0,rounding_size=0.2",
        facecolor=colour,
        edgecolor="#888888",
        linewidth=0.6,
    )
    axes.add_patch(box)
    text = "\n".join(textwrap.wrap(title, width * 3))
    axes.text(x + 0.4, y + 0.5, text, fontsize=8, va="top")
    axes.text(x + width - 0.4, y + height - 0.5, kind, fontsize=6, ha="right", color="#666666")


if __name__ == "__main__":
    draw(ROOT / "deploy/grafana/corepy.json", ROOT / "docs/img/dashboard.svg")
