"""The directive, and what becomes of the log level."""

import logging

import pytest

from corepy.plugin import Debug
from corepy.plugin.log import server_logger
from corepy.testing import refusal, serve, set_up

WITH, WITHOUT = ". {\nbind 127.0.0.1\ndebug\nwhoami\n}", ". {\nbind 127.0.0.1\nwhoami\n}"


@pytest.fixture
def level():
    logger = server_logger()
    before = logger.level
    logger.setLevel(logging.WARNING)
    yield lambda: logger.level
    logger.setLevel(before)


@pytest.mark.parametrize("text", ["debug", "debug\ndebug"])
def test_directive(text, level):
    controller = set_up(text)
    assert controller.config.get(Debug).tracebacks
    assert not controller.handlers
    assert level() == logging.WARNING, "setup changes nothing"


@pytest.mark.parametrize("text", ["debug off", "debug {\n}", "debug\ndebug off"])
def test_refused(text):
    assert refusal(text).token is not None


def test_level_follows_the_configuration(level):
    with serve(WITH) as server:
        assert level() == logging.DEBUG
        server.reload(WITH)
        assert level() == logging.DEBUG
        server.reload(WITHOUT)
        assert level() == logging.WARNING
        server.reload(WITH)
        assert level() == logging.DEBUG
    assert level() == logging.WARNING


def test_two_blocks(level):
    with serve(WITH + "\nexample.org {\nbind 127.0.0.1\ndebug\nwhoami\n}") as server:
        assert level() == logging.DEBUG
        server.reload(WITH)
        assert level() == logging.DEBUG
    assert level() == logging.WARNING
