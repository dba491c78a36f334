"""How many files and sockets this process may have open, and the three that it must have."""

from __future__ import annotations

import os
import resource
import sys

_MOST = 1 << 20
"""What is asked for where there is no limit: the kernel's own by default (fs.nr_open)."""


def raise_descriptor_limit() -> None:
    """Allow as many as the hard limit does.

    The soft limit is 1024 on many systems, for the sake of programs that use select(), and a client
    can hold that many connections. We use epoll; Go's runtime does the same.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # what there is has to do


def descriptor_limit() -> int:
    """Return how many this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def fill_standard_descriptors() -> None:
    """Open the null device where standard input, output or error is closed (`1>&-`).

    The next socket or file would get the free number, and whatever prints would write into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _open_null(number: int) -> None:
    try:
        opened = os.open(os.devnull, os.O_RDWR)
    except OSError:  # a root without devices: a pipe without a reader refuses and never waits
        reader, opened = os.pipe()
        if number == 0:
            reader, opened = opened, reader
        os.close(reader)
    if opened == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(opened, number)
        os.close(opened)
