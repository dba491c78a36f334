"""Import python-iptables quickly and with little memory.

A plain import takes half a second and 15 MB. It runs ldconfig five times to find its libraries,
although the dynamic linker knows their paths. Where setuptools replaces distutils it loads all of
setuptools.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import importlib.util
import os
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy_nodecache.model import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_LIBRARY_FOLDERS: Final = ("/usr/lib/{arch}", "/lib/{arch}", "/usr/lib64", "/usr/lib", "/lib")

_SONAMES: Final = {
    "c": "libc.so.6",
    "ip4tc": "libip4tc.so.2",
    "ip6tc": "libip6tc.so.2",
    "xtables": "libxtables.so.12",
}
"""The sonames of the libraries that python-iptables looks up; others are searched for."""


@functools.cache
def load_iptc() -> ModuleType:
    """Import python-iptables; raises `HostError` with the package that contains its libraries."""
    try:
        with (
            _environment(_hints()),
            _known_libraries(),
            _without_setuptools(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # it leaves pipes open and has invalid escapes
            import iptc
    except Exception as error:
        message = (
            f"python-iptables cannot be used ({error}); it needs libip4tc, libip6tc and libxtables:"
            " install Debian's package iptables (libip4tc2, libip6tc2, libxtables12)"
        )
        raise HostError("iptables", message) from error
    return iptc


def _hints() -> dict[str, str]:
    hints = {}
    spec = importlib.util.find_spec("iptc")
    if spec and spec.origin:
        hints["IPTABLES_LIBDIR"] = str(Path(spec.origin).parent.parent)
    arch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = (Path(folder.format(arch=arch), "xtables") for folder in _LIBRARY_FOLDERS)
    extensions = next((folder for folder in folders if folder.is_dir()), None)
    if extensions:
        hints["XTABLES_LIBDIR"] = str(extensions)
    return hints


@contextlib.contextmanager
def _known_libraries() -> Iterator[None]:
    """Resolve the libraries in `_SONAMES` without running ldconfig."""
    search = ctypes.util.find_library

    def find(name: str) -> str | None:
        soname = _SONAMES.get(name)
        try:
            return ctypes.CDLL(soname)._name if soname else search(name)
        except OSError:
            return search(name)

    ctypes.util.find_library = find
    try:
        yield
    finally:
        ctypes.util.find_library = search


@contextlib.contextmanager
def _without_setuptools() -> Iterator[None]:
    """Disable setuptools' import hook for distutils, if it is installed."""
    shim = sys.modules.get("_distutils_hack")
    if shim is None:
        yield
        return
    shim.remove_shim()
    try:
        yield
    finally:
        shim.add_shim()


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Set those variables that are not set, and remove them afterwards."""
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]
