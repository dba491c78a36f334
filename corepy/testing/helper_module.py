"""Modules that several test files of a folder share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def helper_module(test_file: str, name: str) -> ModuleType:
    """Return the module `name` of the folder of `test_file`, such as `__file__`.

    pytest does not add the folders of tests to the import path (`--import-mode=importlib`). Each
    call executes the file again. Raises OSError if it cannot be read.
    """
    spec = importlib.util.spec_from_file_location(name, Path(test_file).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
