"""Resets the signal settings inherited from the parent process."""

from __future__ import annotations

import signal


def restore_signals() -> None:
    """Unblock all signals, and restore the default handler of SIGCHLD.

    The signal mask and ignored signals survive exec. With the mask of some launchers SIGTERM would
    never arrive. With SIGCHLD ignored, the exit codes of children are lost (wait(2)), and a program
    that fails would appear to have succeeded.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
