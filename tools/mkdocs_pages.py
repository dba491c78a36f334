"""Pages of the documentation that are made of files elsewhere: one per plugin, from its README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
LINKS = (
    (re.compile(r"\]\(\.\./(\w+)/README\.md"), r"](\1.md"),
    (re.compile(r"\]\(\.\./\.\./docs/"), "](../"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the plugins' pages and their index."""
    readmes = sorted(ROOT.glob("plugins/*/README.md"))
    for readme in readmes:
        text = readme.read_text()
        for pattern, replacement in LINKS:
            text = pattern.sub(replacement, text)
        files.append(File.generated(config, f"plugins/{readme.parent.name}.md", content=text))
    files.append(File.generated(config, "plugins/index.md", content=_index(readmes)))
    return files


def _index(readmes: list[Path]) -> str:
    lines = ["# Plugins", "", "| directive | what it does |", "| --- | --- |"]
    for readme in readmes:
        name = readme.parent.name
        summary = re.search(r"## Name\n+\*\w+\* - (.*?)(?:\n\n|\Z)", readme.read_text(), re.DOTALL)
        what = " ".join(summary[1].split()) if summary else ""
        lines.append(f"| [{name}]({name}.md) | {what} |")
    return "\n".join(lines) + "\n"
