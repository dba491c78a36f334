"""Generates documentation pages from other files, and highlights the Corefiles of all pages.

The pages are: the plugin index and one page per plugin from the folders of `plugins/`, the
reference of metrics from the registry, the API pages from the packages' names, the example plugin
from its files, and the list of changes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import api_reference
import corefile_lexer
import metrics_reference
import plugin_index
from mkdocs.structure.files import File
from plugin_folders import plugins

from corepy.scaffold.skeleton import skeleton

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PLUGINS = plugins()
EXAMPLE = """\
# The example

A complete plugin, the output of `corepy new-plugin example`, which is also in
`examples/corepy-example`: options, an answer, metrics, readiness, metadata, tests.
[Writing plugins](writing-plugins.md) explains the parts.
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
    groups = [
        {purpose.capitalize(): [{it.name: f"plugins/{it.name}.md"} for it in group]}
        for purpose, group in plugin_index.by_purpose(PLUGINS)
    ]
    for item in config.nav or []:
        if item.get("Plugins") == "plugins/index.md":
            item["Plugins"] = ["plugins/index.md", *groups]
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences.setdefault("custom_fences", []).append(
        {"name": "corefile", "class": "highlight", "format": corefile_lexer.fence}
    )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {f"plugins/{plugin.name}.md": _manual(plugin.readme) for plugin in PLUGINS}
    pages["plugins/index.md"] = plugin_index.index(PLUGINS, lambda plugin: f"{plugin.name}.md")
    pages["metrics.md"] = metrics_reference.render()
    pages["example.md"] = _example()
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text()
    pages |= {f"api/{name}.md": api_reference.render(name) for name in api_reference.PACKAGES}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Fill in the table of directives in the page about migrating."""
    if page.file.src_uri != "migrating.md":
        return markdown
    comments = re.findall(r"<!-- directives of CoreDNS:.*? -->", markdown)
    if len(comments) != 1:
        raise ValueError(
            "docs/migrating.md needs one comment '<!-- directives of CoreDNS: ... -->'"
        )
    return markdown.replace(comments[0], plugin_index.directives(PLUGINS))


def on_page_content(html: str, **_: object) -> str:
    """Mark command-line flags, so that the style sheet prevents a line break after the dash."""
    return FLAG.sub(r'<code class="flag">\1</code>', html)


def _manual(readme: Path) -> str:
    text = readme.read_text()
    for pattern, replacement in LINKS:
        text = pattern.sub(replacement, text)
    return text


def _example() -> str:
    files = skeleton("example")
    parts = [EXAMPLE]
    for name in dict.fromkeys(("pyproject.toml", *FIRST_OF_EXAMPLE, *files)):
        if files[name]:
            language = LANGUAGES[Path(name).suffix]
            parts.append(f"## `{name}`\n\n````{language}\n{files[name]}````\n")
    return "\n".join(parts)
