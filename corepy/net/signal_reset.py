"""Resets the signal settings inherited from the parent process."""

from __future__ import annotations

import signal


def restore_signals() -> None:
    """Unblock all signals, and restore the default actions of SIGCHLD and SIGINT.

    The signal mask and ignored signals survive exec. With the mask of some launchers SIGTERM would
    never arrive. With SIGCHLD ignored, the exit codes of children are lost (wait(2)), and a program
    that fails would appear to have succeeded.

    Python's own handler of SIGINT raises KeyboardInterrupt, which could be taken for the failure of
    a plugin that is being imported. Until a server installs its handlers, SIGINT ends the process
    as SIGTERM does.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
