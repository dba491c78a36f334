"""What the skeleton of a plugin consists of.

Files of the template end in `.tmpl`, so that no tool takes them for code. In their names `NAME`
stands for the plugin's name, in their text `@name@` for the same and `@Class@` for the name as the
first part of a class's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

TEMPLATE: Final = Path(__file__).parent / "template"
_SUFFIX: Final = ".tmpl"


def skeleton(name: str) -> dict[str, str]:
    """Return the files of a plugin `name`: the text of each by its path in the plugin's folder."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    files = {}
    for source in sorted(TEMPLATE.rglob(f"*{_SUFFIX}")):
        path = source.relative_to(TEMPLATE).as_posix().removesuffix(_SUFFIX)
        text = source.read_text(encoding="utf-8")
        files[path.replace("NAME", name)] = text.replace("@name@", name).replace("@Class@", camel)
    return files


def write(name: str, folder: Path) -> None:
    """Write the skeleton of `name` into `folder`, which must not exist; raises OSError."""
    folder.mkdir(parents=True)
    for path, text in skeleton(name).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
