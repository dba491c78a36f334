"""Generates documentation pages from other files, and highlights the Corefiles of all pages.

The pages are: one per plugin from its README, the reference of metrics from the registry, the API
pages from the packages' names, the example plugin from its files, and the list of changes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import api_reference
import corefile_lexer
import metrics_reference
from mkdocs.structure.files import File

from corepy.scaffold.skeleton import skeleton

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
READMES = sorted(ROOT.glob("plugins/*/README.md"))
EXAMPLE = """\
# The example

A whole plugin, as `corepy new-plugin example` writes it and as it lies in
`examples/corepy-example`: options, an answer, metrics, readiness, metadata, tests.
[Writing plugins](writing-plugins.md) tells what the parts are for.
"""
FIRST_OF_EXAMPLE = tuple(f"corepy_example/{name}.py" for name in ("__init__", "setup", "handler"))
FLAG = re.compile(r"<code>((?:corepy )?-[\w.-]+)</code>")
LANGUAGES = {".py": "python", ".toml": "toml", ".md": "markdown", "": "corefile"}
LINKS = (
    (re.compile(r"\]\(\.\./(\w+)/README\.md"), r"](\1.md"),
    (re.compile(r"\]\(\.\./\.\./docs/"), "](../"),
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add each plugin to the navigation, and the highlighter for Corefiles."""
    pages = [{name: f"plugins/{name}.md"} for name in (it.parent.name for it in READMES)]
    for item in config.nav or []:
        if item.get("Plugins") == "plugins/index.md":
            item["Plugins"] = ["plugins/index.md", *pages]
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences.setdefault("custom_fences", []).append(
        {"name": "corefile", "class": "highlight", "format": corefile_lexer.fence}
    )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {f"plugins/{readme.parent.name}.md": _manual(readme) for readme in READMES}
    pages["plugins/index.md"] = _index()
    pages["metrics.md"] = metrics_reference.render()
    pages["example.md"] = _example()
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text()
    pages |= {f"api/{name}.md": api_reference.render(name) for name in api_reference.PACKAGES}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Mark command-line flags, so that the style sheet prevents a line break after the dash."""
    return FLAG.sub(r'<code class="flag">\1</code>', html)


def _manual(readme: Path) -> str:
    text = readme.read_text()
    for pattern, replacement in LINKS:
        text = pattern.sub(replacement, text)
    return text


def _index() -> str:
    lines = [
        "# Plugins",
        "",
        "What comes with corepy. `corepy -plugins` lists what is installed, others' included.",
        "",
        "| directive | what it does |",
        "| --- | --- |",
    ]
    for readme in READMES:
        name = readme.parent.name
        lines.append(f"| [{name}]({name}.md) | {summary(readme)} |")
    return "\n".join(lines) + "\n"


def _example() -> str:
    files = skeleton("example")
    parts = [EXAMPLE]
    for name in dict.fromkeys(("pyproject.toml", *FIRST_OF_EXAMPLE, *files)):
        if files[name]:
            language = LANGUAGES[Path(name).suffix]
            parts.append(f"## `{name}`\n\n````{language}\n{files[name]}````\n")
    return "\n".join(parts)


def summary(readme: Path) -> str:
    """Return the description in a plugin README's Name section, without the name."""
    found = re.search(r"## Name\n+\*\w+\* - (.*?)(?:\n\n|\Z)", readme.read_text(), re.DOTALL)
    return " ".join(found[1].split()) if found else ""
