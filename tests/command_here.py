"""Runs commands that start no server in the process of the test."""

import io
import os
import subprocess
from contextlib import chdir, redirect_stderr, redirect_stdout
from unittest import mock

from corepy.cli import main


def run_here(*flags, cwd="."):
    """Return the result of `corepy` with these flags; a process would take 0.2 s of CPU time."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(errors),
        mock.patch.dict(os.environ, COLUMNS="80"),
    ):
        code = exit_code(flags)
    return subprocess.CompletedProcess(flags, code, out.getvalue(), errors.getvalue())


def exit_code(flags):
    try:
        return main(flags)
    except SystemExit as ended:
        return ended.code
