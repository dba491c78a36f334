"""Makes tables of files, and contexts of hooks, for tests."""

import os

import pluggy

from corepy.plugin import LifecycleContext, ProcessGroup
from corepy_blocklist.compiling import compile_files
from corepy_blocklist.rule import NAME, SourceFile, SourceKind
from corepy_blocklist.table import Table


async def _no_reload(_: str) -> bool:
    return False


def context_of(group=None):
    """The argument of the hooks, in a process of a group."""
    context = LifecycleContext(pluggy.PluginManager("corepy"), _no_reload, lambda: None)
    context.process_group = group or ProcessGroup()
    return context


def table_of(folder, *contents, kind=SourceKind.LIST, previous=None, scope=NAME, zone=""):
    """The table of files with these contents, None for a missing one."""
    files = []
    for number, content in enumerate(contents):
        path = folder / f"file{number}"
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        files.append(SourceFile(kind, str(path), zone))
    descriptor = os.memfd_create("table")
    try:
        with open(descriptor, "wb", closefd=False) as output:
            compile_files(files, scope, output, previous)
        return Table(descriptor)
    finally:
        os.close(descriptor)
