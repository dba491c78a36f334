"""Raises the limit of open descriptors, and opens missing standard descriptors."""

from __future__ import annotations

import os
import resource
import sys

_MOST = 1 << 20
"""The limit used for "unlimited": the kernel's default maximum (fs.nr_open)."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard limit.

    The soft limit is 1024 on many systems for the sake of programs that use select(), and a single
    client can open that many connections. We use epoll. Go's runtime raises the limit, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # continue with the existing limit


def descriptor_limit() -> int:
    """Return the maximum number of descriptors of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def fill_standard_descriptors() -> None:
    """Open the null device for each closed standard input, output or error (`1>&-`).

    Otherwise the next socket or file would get the free number, and prints would go into it.
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
    except OSError:  # a chroot without devices: a pipe without a reader fails at once
        reader, opened = os.pipe()
        if number == 0:
            reader, opened = opened, reader
        os.close(reader)
    if opened == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(opened, number)
        os.close(opened)
