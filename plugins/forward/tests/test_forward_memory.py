"""Exchanges are freed at once: a cycle of references would wait for the garbage collector."""

import gc

import pytest

from corepy.testing import Upstream, serve
from corepy_forward.attempt import Attempt
from corepy_forward.exchange import Exchange

RECORDS = {f"name{number}.example.org. A": [] for number in range(10)}


def left_over():
    return [it for it in gc.get_objects() if type(it) in (Exchange, Attempt)]


@pytest.mark.parametrize("option", ["policy random", "force_tcp"])
def test_a_miss_leaves_nothing_to_the_garbage_collector(option):
    with Upstream(RECORDS) as upstream:
        text = f".:0 {{\n bind 127.0.0.1\n forward . {upstream.to} {{\n  {option}\n }}\n}}\n"
        with serve(text, still=True) as server:
            server.ask("name0.example.org.")
            gc.collect()
            gc.disable()
            try:
                for number in range(1, 10):
                    server.ask(f"name{number}.example.org.")
                assert server.call(left_over) == []
            finally:
                gc.enable()
