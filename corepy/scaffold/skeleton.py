"""Builds the files of a plugin's skeleton from the template.

Template files end in `.tmpl`, so that tools do not treat them as code. `NAME` in a file name and
`@name@` in a text are replaced by the plugin's name, `@Class@` by the name in CamelCase, which
begins the names of its classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

TEMPLATE: Final = Path(__file__).parent / "template"
_SUFFIX: Final = ".tmpl"


def skeleton(name: str) -> dict[str, str]:
    """Return the files of the plugin `name`: a text by its path relative to the plugin's folder."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    files = {}
    for source in sorted(TEMPLATE.rglob(f"*{_SUFFIX}")):
        path = source.relative_to(TEMPLATE).as_posix().removesuffix(_SUFFIX)
        text = source.read_text(encoding="utf-8")
        files[path.replace("NAME", name)] = text.replace("@name@", name).replace("@Class@", camel)
    return files


def write(name: str, folder: Path) -> None:
    """Write the skeleton of `name` into `folder`; raise OSError if the folder exists."""
    folder.mkdir(parents=True)
    for path, text in skeleton(name).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
