"""The groups of modules that can be selected for mutation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

GROUPS: Final = {
    "corefile+dns": ("corepy/corefile/*.py", "corepy/dns/*.py"),
    "cache": ("plugins/cache/corepy_cache/*.py",),
    "server": ("corepy/server/listen/*.py",),
    "forward": ("plugins/forward/corepy_forward/*.py",),
    "nodecache": ("plugins/nodecache/corepy_nodecache/*.py",),
}
"""Glob patterns of modules, relative to the root."""

TESTS: Final = (
    "tests",
    "plugins",
    *(
        f"--ignore={it}.py"
        for it in (
            "plugins/nodecache/tests/kernel/test_nodecache_uml",
            "tests/kernel/test_ha_deployment",
            "tests/test_author_kit",
            "tests/test_benchmarks_report",
            "tests/test_build_version",
            "tests/test_completion",
            "tests/test_docs_site",
            "tests/test_editors",
            "tests/test_man_pages",
            "tests/test_mutants",
            "tests/test_packaging",
            "tests/test_setup_tools",
        )
    ),
)
"""Arguments of pytest: the suite without slow tests that do not cover the modules of the groups."""


def modules_of(root: Path, globs: tuple[str, ...]) -> list[str]:
    """Return the modules that match, as paths from the root."""
    return sorted({str(path.relative_to(root)) for glob in globs for path in root.glob(glob)})
