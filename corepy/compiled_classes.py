"""Helpers for classes in modules that can be compiled with mypyc.

As ordinary Python, the decorator returns the class unchanged. mypyc reads it as that of
mypy_extensions, which is not needed at run time. docs/design.md lists the rules for these modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(*_names: str, **_values: Any) -> Any:
        """Return a decorator without effect."""
        return lambda decorated: decorated
