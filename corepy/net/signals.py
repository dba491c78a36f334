"""What a process inherits of signals from whoever starts it."""

from __future__ import annotations

import signal


def restore_signals() -> None:
    """Block no signal, and let children be waited for.

    A signal mask and ignored signals outlive exec: behind some launchers SIGTERM would never
    arrive, and where SIGCHLD is ignored the exit code of every child is lost (wait(2)), so a
    program that fails would seem to have done its work.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
