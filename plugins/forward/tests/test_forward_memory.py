"""Exchanges are freed at once: a cycle of references would wait for the garbage collector."""

import gc

import pytest

from corepy.testing import Upstream, serve
from corepy_forward.attempt import Attempt
from corepy_forward.exchange import Exchange

NAMES = [f"name{number}.example.org." for number in range(10)]
RECORDS = {f"{name} A": [f"{name} 60 IN A 192.0.2.1"] for name in NAMES}


def left_over():
    return [it for it in gc.get_objects() if type(it) in (Exchange, Attempt)]


@pytest.mark.parametrize("option", ["policy random", "force_tcp"])
def test_a_miss_leaves_nothing_to_the_garbage_collector(option):
    with Upstream(RECORDS) as upstream:
        text = f".:0 {{\n bind 127.0.0.1\n forward . {upstream.to} {{\n  {option}\n }}\n}}\n"
        with serve(text, still=True) as server:
            server.ask(NAMES[0])
            gc.collect()
            gc.disable()
            try:
                for name in NAMES[1:]:
                    assert server.ask(name).rr
                assert server.call(left_over) == []
            finally:
                gc.enable()
