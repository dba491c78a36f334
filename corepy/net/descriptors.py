"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource

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
