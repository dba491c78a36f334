"""The release of corepy that is installed: its distribution, version and commit."""

from __future__ import annotations

from typing import Final

DISTRIBUTION: Final = "corepy-dns"
"""The name of the distribution; `corepy` on the package index is another project."""

FORMER_DISTRIBUTION: Final = "corepy"
"""The name that the distribution had before its first release."""

UNKNOWN: Final = "unknown"


def version() -> str:
    """Return the version of the installed distribution; "unknown" if none is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # a checkout on PYTHONPATH
        return UNKNOWN


def commit() -> str:
    """Return the commit from which the installed distribution was built.

    tools/hatch_build.py records it in the metadata at build time. An editable installation has the
    suffix "-editable", since its files may have changed since.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return distribution(DISTRIBUTION).read_text("extra_metadata/commit.txt") or UNKNOWN
    except PackageNotFoundError:
        return UNKNOWN


def form() -> str:
    """Return "compiled" if the installation has compiled modules, else "pure"."""
    from importlib.machinery import EXTENSION_SUFFIXES
    from pathlib import Path

    package = Path(__file__).parent
    files = (package / "dns" / f"message{suffix}" for suffix in EXTENSION_SUFFIXES)
    return "compiled" if any(file.exists() for file in files) else "pure"


def version_text() -> str:
    """Return the output of -version: name and version, then platform, interpreter and commit.

    The form follows the interpreter: "compiled" or "pure".
    """
    import platform

    system = f"{platform.system().lower()}/{platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"corepy-{version()}\n{system}, {python}, {form()}, {commit()}\n"


def conflict() -> str | None:
    """Return a warning, with the solution, if the distribution `corepy` is installed beside ours.

    Both install files of the package `corepy`, so the one installed last overwrites the other.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours, other = version(DISTRIBUTION), version(FORMER_DISTRIBUTION)
    except PackageNotFoundError:
        return None
    return (
        f"{FORMER_DISTRIBUTION} {other} is installed beside {DISTRIBUTION} {ours} and may have"
        f" overwritten its files: pip uninstall {FORMER_DISTRIBUTION}, then"
        f" pip install --force-reinstall {DISTRIBUTION}"
    )
