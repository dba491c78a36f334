"""What *errors* accepts; the table holds the cases of CoreDNS's setup test."""

import logging
import subprocess
import sys

import pytest

from corepy.plugin import Debug
from corepy.testing import refusal, set_up
from corepy_errors.consolidation import Consolidation
from corepy_errors.errors import Errors


def consolidations(text: str) -> list[Consolidation]:
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Errors)
    return list(handler._consolidations)


@pytest.mark.parametrize(
    ("text", "count", "tracebacks"),
    [
        ("errors", 0, False),
        ("errors stdout", 0, False),
        ("errors {\nstacktrace\n}", 0, True),
        ("errors {\nstacktrace\nconsolidate 1m ^exact$\n}", 1, True),
        ("errors {\nconsolidate 1m ^exact$\n}", 1, False),
        ("errors {\nconsolidate 1m error\n}", 1, False),
        ('errors {\nconsolidate 1m "format error"\n}', 1, False),
        ("errors stdout {\nconsolidate 1m error1\nconsolidate 5s error2\n}", 2, False),
        ("errors {\nconsolidate 1m error show_first\n}", 1, False),
        ("errors {\nconsolidate 1m error warning show_first\n}", 1, False),
        ("errors {\nconsolidate 0 error\n}", 1, False),
        ("errors {\nconsolidate 1m " + "a" * 10_000 + "\n}", 1, False),
    ],
)
def test_accepts(text: str, count: int, tracebacks: bool) -> None:
    assert len(consolidations(text)) == count
    assert set_up(text).config.get(Debug).tracebacks is tracebacks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("errors errors.txt", "invalid log file: errors.txt"),
        ("errors visible", "invalid log file: visible"),
        ("errors { log visible }", "unknown option 'log'"),
        ("errors\nerrors", "only be used once"),
        ("errors a b", "wrong argument count"),
        ("errors {\nstacktrace all\n}", "unknown option 'all'"),
        ("errors {\nconsolidate\n}", "wrong argument count"),
        ("errors {\nconsolidate 1m\n}", "wrong argument count"),
        ("errors {\nconsolidate 1m .* error show_first extra\n}", "wrong argument count"),
        ("errors {\nconsolidate 1m .* extra\n}", "unknown option 'extra'"),
        ("errors {\nconsolidate abc .*\n}", "invalid duration 'abc'"),
        ("errors {\nconsolidate 1 .*\n}", "missing unit in duration '1'"),
        ("errors {\nconsolidate 1m ())\n}", "invalid regular expression: unexpected ): ())"),
        ("errors {\nconsolidate 1m (?=x)\n}", "invalid regular expression"),
        ("errors {\nconsolidate 1m (a)\\1\n}", "invalid regular expression"),
        ("errors {\nconsolidate 1m error warning error\n}", "multiple log levels"),
        ("errors {\nconsolidate 1m error info debug\n}", "multiple log levels"),
        ("errors {\nconsolidate 1m error show_first warning\n}", "must come before show_first"),
        ("errors {\nconsolidate 1m error show_first info\n}", "must come before show_first"),
        ("errors {\nconsolidate 1m " + "a" * 10_001 + "\n}", "too long: 10001 > 10000"),
        ("errors {\nconsolidate 1m " + "\u00e9" * 5_001 + "\n}", "too long: 10002 > 10000"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert message in refusal(text).message


def test_points_at_the_argument() -> None:
    diagnostic = refusal("errors {\nconsolidate 1m .* warnin\n}")
    assert diagnostic.token is not None
    assert diagnostic.token.text == "warnin"
    assert diagnostic.hint == "did you mean 'warning'?"


@pytest.mark.parametrize(
    ("options", "level", "show_first"),
    [
        ("", logging.ERROR, False),
        ("error", logging.ERROR, False),
        ("warning", logging.WARNING, False),
        ("info", logging.INFO, False),
        ("debug", logging.DEBUG, False),
        ("show_first", logging.ERROR, True),
        ("warning show_first", logging.WARNING, True),
    ],
)
def test_options(options: str, level: int, show_first: bool) -> None:
    (found,) = consolidations(f"errors {{\nconsolidate 1m .* {options}\n}}")
    assert (found.level, found.show_first, found.period) == (level, show_first, 60)


def test_re2_is_imported_only_when_needed() -> None:
    program = """if True:
        import sys
        from corepy.testing import set_up
        set_up("errors {\\nstacktrace\\n}")
        print("re2" in sys.modules)
        set_up("errors {\\nconsolidate 1m x\\n}")
        print("re2" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")
