"""Compiles modules of the tree with mypyc into extension modules, for the optional compiled form.

`[tool.corepy.compile]` in pyproject.toml lists the modules of corepy itself, `compile` in the
plugin.toml of each plugin those of the plugin, because a plugin edits nothing but its folder.

    python tools/compile_modules.py OUT    # write the extension modules below OUT
    python tools/compile_modules.py --hash    # print a hash of everything that affects them

Each module becomes a small library that loads the common one, OUT/corepy__mypyc.*.so. The
environment needs mypy in the version of `REQUIREMENTS`, setuptools, a C compiler and the headers of
Python. MYPYC_OPT_LEVEL is the level of the compiler's optimization, 3 by default.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))
try:
    import plugin_folders
finally:
    sys.path.pop(0)

ROOT: Final = Path(__file__).parent.parent

REQUIREMENTS: Final = ("mypy==2.4.1", "setuptools>=77")
"""The packages that compiling needs in addition to those of a build; mypy contains mypyc.

The version of mypy is exact, because other versions compile other code.
"""

SWITCH: Final = "COREPY_COMPILE"
"""The environment variable that makes a build compile: 1."""

GROUP: Final = "corepy"
"""The name of the common library, without `__mypyc`."""

_OPTIONS: Final = (
    # The result must not depend on the packages that happen to be installed.
    "--no-site-packages",
    "--ignore-missing-imports",
    "--config-file=",
    # mypyc lays out the objects of such a class as if it had no base, which corrupts memory. The
    # modules that are not compiled may have such classes.
    "--disallow-subclassing-any",
    "--follow-imports=silent",
)

_FLAGS: Final = ["-fvisibility=hidden", "-fno-plt"]
"""Flags of the compiler: functions of the library call each other directly."""

_WEAK_REFERENCES: Final = (
    r"\*\(\(PyObject \*\*\)\(\(char \*\)self \+ sizeof\(PyObject \*\) \+ [^;\n]*;"
)
"""The list of weak references to `self` in generated C code, up to the end of the statement."""

_CLEAR: Final = (
    "if (Py_TYPE(self)->tp_weaklistoffset && Py_REFCNT(self) == 0)"
    " PyObject_ClearWeakRefs((PyObject *)self);"
)

_CORRECTIONS: Final = (
    (re.compile(rf"Py_VISIT\({_WEAK_REFERENCES}"), ";"),
    (re.compile(rf"Py_CLEAR\({_WEAK_REFERENCES}"), _CLEAR),
    # The class keeps a freed object for its next one.
    (re.compile(r"(?=if \(\w+_free_instance == NULL\))"), f"{_CLEAR}\n"),
)
"""Corrections of generated C code: weak references.

Objects of classes with a base that is not compiled accept weak references. For mypyc 2.4 the first
reference is an attribute, which it counts down instead of telling the references that their object
is freed: a reference that outlives it crashes the process. The garbage collector clears the
references itself, so only freeing has to (reference count 0).
"""

_ASSIGNMENT: Final = re.compile(
    r"(?P<release>(?:if \([^;{}\n]*\) \{\s*)?"
    r"CPy_DECREF\((?P<attribute>[^;\n]*?->\w+)(?:\.f\d+)?\);\s*"
    r"(?:CPy(?:Tagged)?_DECREF\((?P=attribute)\.f\d+\);\s*)*"
    r"(?:\}\s*)?)"
    r"(?P=attribute) = (?P<value>[^;]+);"
)
"""The assignment to an attribute in generated C code: release of the old value, then the new one.

Freeing the old value may run any code, such as the `__del__` of an object that it refers to. Code
that reads the attribute would get the old value, which would be freed twice.
"""

_REUSE: Final = re.compile(
    r"if \((?P<kept>\w+_free_instance) == NULL\) \{\s*(?P=kept) = self;\s*"
    r"(?P<reset>(?s:.*?))return;\s*\}\s*"
    r"(?P<begin>CPy_TRASHCAN_BEGIN\([^;\n]*\))\s*(?P<free>(?s:.*?))(?=CPy_TRASHCAN_END)"
)
"""The code that frees an object of a class that keeps one freed object for its next one.

It offers the object before its attributes are freed. Code that runs meanwhile and makes an object
of the class would get this one, and lose its attributes.
"""


class ModuleError(Exception):
    """A module in a list does not exist; the message names the list and the module."""


def is_wanted() -> bool:
    """Return whether the environment asks for the compiled form."""
    return os.environ.get(SWITCH, "") not in ("", "0")


def modules(root: Path = ROOT) -> list[Path]:
    """Return the files of the modules to compile, relative to `root`; raises ModuleError."""
    file = root / "pyproject.toml"
    listed = tomllib.loads(file.read_text(encoding="utf-8"))["tool"]["corepy"]["compile"]["modules"]
    found = [_file(root, file, Path(), name) for name in listed]
    for plugin in plugin_folders.plugins(root):
        folder = plugin.folder.relative_to(root)
        declared = plugin.folder / "plugin.toml"
        found += [
            _file(root, declared, folder, f"{plugin.package}.{name}") for name in plugin.compiled
        ]
    return found


def _file(root: Path, listed_in: Path, folder: Path, module: str) -> Path:
    file = folder / f"{module.replace('.', '/')}.py"
    if not (root / file).is_file():
        raise ModuleError(f"{listed_in.relative_to(root)}: module {module} does not exist")
    return file


def source_hash(root: Path = ROOT) -> str:
    """Return a hash of the sources and versions that affect the compiled modules.

    A module is compiled with the types of all others.
    """
    digest = hashlib.sha256(repr((*REQUIREMENTS, sys.version, platform.machine())).encode())
    digest.update(os.environ.get("MYPYC_OPT_LEVEL", "").encode())
    sources = [*root.glob("corepy/**/*.py"), *root.glob("plugins/*/corepy_*/**/*.py")]
    lists = [root / "pyproject.toml", *root.glob("plugins/*/plugin.toml"), Path(__file__)]
    for file in sorted((*sources, *lists)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def compile_into(out: Path, root: Path = ROOT) -> list[Path]:
    """Compile the modules; return the extension modules below `out`, relative to it.

    Changes the working directory, in which mypyc expects the sources. Raises SystemExit for code
    that mypyc rejects.
    """
    import setuptools
    from mypyc.build import mypycify

    out = out.resolve()
    os.chdir(root)
    os.environ["MYPYPATH"] = ":".join(f"plugins/{it.name}" for it in plugin_folders.plugins(root))
    with_objects = out.with_name(f"{out.name}-objects")
    extensions = mypycify(
        [*_OPTIONS, f"--cache-dir={with_objects / 'types'}", *map(str, modules(root))],
        opt_level=os.environ.get("MYPYC_OPT_LEVEL", "3"),
        debug_level="0",
        group_name=GROUP,
        target_dir=str(with_objects / "c"),
    )
    for extension in extensions:
        extension.extra_compile_args = [*(extension.extra_compile_args or ()), *_FLAGS]
    for source in {source for extension in extensions for source in extension.sources}:
        _correct(Path(source))
    command = setuptools.Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(out), str(with_objects)
    command.ensure_finalized()
    command.run()
    return sorted(file.relative_to(out) for file in out.rglob(f"*{_suffix()}"))


def _correct(file: Path) -> None:
    """Correct a file of generated C code."""
    code = corrected = file.read_text(encoding="utf-8")
    for wrong, right in _CORRECTIONS:
        corrected = wrong.sub(right, corrected)
    corrected = _ASSIGNMENT.sub(_assign_first, corrected)
    corrected = _REUSE.sub(_reset_first, corrected)
    if corrected != code:
        file.write_text(corrected, encoding="utf-8")


def _assign_first(found: re.Match[str]) -> str:
    """Return the assignment with the release of the old value at its end."""
    attribute = found["attribute"]
    release = found["release"].replace(attribute, "replaced")
    return (
        f"{{ __typeof__({attribute}) replaced = {attribute};\n"
        f"{attribute} = {found['value']};\n{release}}}"
    )


def _reset_first(found: re.Match[str]) -> str:
    """Return code that frees the attributes of an object before it keeps the object."""
    return (
        f"{found['begin']}\n{found['reset']}if ({found['kept']} == NULL) {{\n"
        f"{found['kept']} = self;\n}} else {{\n{found['free']}}}\n"
    )


def _suffix() -> str:
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def main(arguments: list[str]) -> None:
    """Compile into the folder that is given, or print the hash."""
    if arguments == ["--hash"]:
        sys.stdout.write(f"{source_hash()}\n")
    elif len(arguments) == 1:
        for file in compile_into(Path(arguments[0])):
            sys.stdout.write(f"{file}\n")
    else:
        sys.exit("usage: python tools/compile_modules.py OUT | --hash")


if __name__ == "__main__":
    main(sys.argv[1:])
