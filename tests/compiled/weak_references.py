"""Makes a weak reference to an object of each compiled class, frees the object and calls the reference.

Prints a line for each class: its name, and `refused`, `cleared` or the fault. A reference that is
not cleared can crash the process.
"""

import gc
import importlib
import sys
import weakref


def classes(kind=object):
    """Yield the classes below `kind`, also those of functions in functions."""
    for found in type.__subclasses__(kind):
        yield found
        yield from classes(found)


def outcome(kind):
    """Return the outcome for a class; None if no objects can be made without arguments."""
    if kind.__weakrefoffset__ == 0:
        return "refused"
    if kind.__weakrefoffset__ != kind.__basicsize__ - 8:
        return f"has references at {kind.__weakrefoffset__} of {kind.__basicsize__} bytes"
    try:
        made = kind.__new__(kind)
    except TypeError:
        return "not made"
    freed: list[object] = []
    one, other = weakref.ref(made, freed.append), weakref.ref(made)
    gc.collect()
    if one() is not made or other() is not made:
        return "cleared too early"
    del made
    if freed != [one] or one() is not None or other() is not None:
        return "not cleared"
    return "cleared"


def is_compiled(kind):
    """Return whether mypyc has made a class: it has no slots of its own, and C code frees it."""
    return "__mypyc_attrs__" in vars(kind) or kind.__name__.endswith("_obj")


modules = sys.argv[1:]
for name in modules:
    importlib.import_module(name)
for kind in sorted({*classes()}, key=repr):
    if kind.__module__ in modules and is_compiled(kind):
        sys.stdout.write(f"{kind.__module__}.{kind.__name__} {outcome(kind)}\n")
