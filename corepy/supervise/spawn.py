"""Starts a worker: its environment, the descriptors that it inherits, the privileges that it keeps.

A worker keeps those of root's capabilities that it needs to serve DNS on a node:

* CAP_NET_BIND_SERVICE: a reload may open a new port below 1024;
* CAP_NET_ADMIN and CAP_NET_RAW: *nodecache* sets up the interface and the rules (iptables' legacy
  interface is a raw socket).

The others are dropped from the bounding set before the worker starts, so neither the worker nor its
children can regain them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from corepy.net.outlet import Outlet
from corepy.supervise.adoption import command_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KEPT_CAPABILITIES = {10: "CAP_NET_BIND_SERVICE", 12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
WATCHDOG_USEC = 1_000_000
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_LAST_CAPABILITY = 63
_STDERR, _FIRST_FD = 2, 3


def spawn(
    flags: Sequence[str], descriptors: Mapping[str, int], notify: str, *, outlives: bool
) -> int:
    """Start `corepy` with `flags`; return its process ID.

    The worker inherits the `descriptors`, and sends its notifications to the path `notify`. Unless
    it `outlives` the supervisor, it stops gracefully when the supervisor exits.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid:
            return pid
        try:
            _stop_listening(mask)
            _become_worker(flags, descriptors, notify, outlives=outlives)
        except BaseException as error:
            _complain(error)
        finally:
            os._exit(127)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _complain(error: BaseException) -> None:
    errors = Outlet()
    errors.put([f"corepy: cannot run {sys.executable} for a worker: {error}"])
    errors.write(_STDERR)


def _stop_listening(mask: Iterable[int]) -> None:
    """Restore the default signal handlers and the signal `mask` in the child.

    Until exec the child has the supervisor's handlers, and the socket that wakes its loop: a
    SIGTERM sent to the child would stop the supervisor.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become_worker(
    flags: Sequence[str], descriptors: Mapping[str, int], notify: str, *, outlives: bool
) -> NoReturn:
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": notify,
        "WATCHDOG_USEC": str(WATCHDOG_USEC),
        "LISTEN_FDS": str(len(descriptors)),
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDNAMES": ":".join(descriptors),
    }
    # Duplicate above the target range first, so that no dup2 closes another one.
    above = _FIRST_FD + len(descriptors)
    spare = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in descriptors.values()]
    for place, fd in enumerate(spare, _FIRST_FD):
        os.dup2(fd, place, inheritable=True)
    os.setpgid(0, 0)  # terminal signals reach only the supervisor
    _restrict(outlives=outlives)
    command = command_of(flags)
    os.execve(sys.executable, command, environment)  # noqa: S606 - without a shell


def _restrict(*, outlives: bool) -> None:
    libc = ctypes.CDLL(None)
    if not outlives:  # SIGINT, since the sockets are lost
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in KEPT_CAPABILITIES:
            with contextlib.suppress(OSError):
                libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
