"""What the directive takes and refuses: the cases of CoreDNS's plugin/cache/setup_test.go, and ours."""

import pytest

from corepy.corefile import parse
from corepy.plugin import CorefileError
from corepy.server.build.builder import build
from corepy.testing import set_up
from corepy_cache.handler import Cache
from corepy_cache.settings import DEFAULT_CAPACITY, MIN_CAPACITY, Settings

N = DEFAULT_CAPACITY
M = MIN_CAPACITY


def settings(text: str, zone: str = ".") -> Settings:
    (handler,) = set_up(text, zone).handlers
    assert isinstance(handler, Cache)
    return handler.settings


def option(text: str) -> Settings:
    return settings(f"cache {{\n{text}\n}}")


# (text, denial: capacity, max, min; success: capacity, max, min; prefetch)
@pytest.mark.parametrize(
    ("text", "denial", "success", "prefetch"),
    [
        ("cache", (N, 1800, 5), (N, 3600, 5), 0),
        ("cache {\n}", (N, 1800, 5), (N, 3600, 5), 0),
        ("cache example.nl {\nsuccess 10\n}", (N, 1800, 5), (M, 3600, 5), 0),
        ("cache example.nl {\nsuccess 10 1800 30\n}", (N, 1800, 5), (M, 1800, 30), 0),
        ("cache example.nl {\nsuccess 10\ndenial 10 15\n}", (M, 15, 5), (M, 3600, 5), 0),
        ("cache example.nl {\nsuccess 10\ndenial 10 15 2\n}", (M, 15, 2), (M, 3600, 5), 0),
        ("cache 25 example.nl {\nsuccess 10\ndenial 10 15\n}", (M, 15, 5), (M, 25, 5), 0),
        ("cache 25 example.nl {\nsuccess 10\ndenial 10 15 5\n}", (M, 15, 5), (M, 25, 5), 0),
        ("cache aaa example.nl", (N, 1800, 5), (N, 3600, 5), 0),
        ("cache {\nprefetch 10\n}", (N, 1800, 5), (N, 3600, 5), 10),
        ("cache 30", (N, 30, 5), (N, 30, 5), 0),
        ("cache {\nsuccess 5000 60 0 ignored\n}", (N, 1800, 5), (5000, 60, 0), 0),
        ("cache {\nsuccess -1\n}", (N, 1800, 5), (M, 3600, 5), 0),
    ],
)
def test_bounds(text, denial, success, prefetch):
    got = settings(text)
    assert (got.denial.capacity, got.denial.max_ttl, got.denial.min_ttl) == denial
    assert (got.success.capacity, got.success.max_ttl, got.success.min_ttl) == success
    assert got.prefetch.amount == prefetch


@pytest.mark.parametrize(
    "text",
    [
        "cache example.nl {\nsuccess\ndenial 10 15\n}",
        "cache example.nl {\nsuccess 15\ndenial aaa\n}",
        "cache example.nl {\npositive 15\nnegative aaa\n}",
        "cache 0 example.nl",
        "cache -1 example.nl",
        "cache 1 example.nl {\npositive 0\n}",
        "cache 1 example.nl {\npositive 0\nprefetch -1\n}",
        "cache 1 example.nl {\nprefetch 0 blurp\n}",
        "cache\ncache",
        "cache {\nsuccess 10 0\n}",
        "cache {\ndenial 10 -3\n}",
        "cache {\nsuccess 10 5 -1\n}",
        "cache {\nsuccess 10 5 x\n}",
        "cache {\nsuccess 1_000\n}",
        "cache {\nprefetch\n}",
        "cache {\nprefetch -1\n}",
        "cache {\nprefetch 1 1m 10\n}",
        "cache {\nprefetch 1 1m 9%\n}",
        "cache {\nprefetch 1 1m 91%\n}",
        "cache {\nprefetch 1 1m x%\n}",
        "cache {\nprefetch 1 1m 10% more\n}",
        "cache {\nkeepttl arg1\n}",
        "cache {\ndisable invalid example.com example.org\n}",
        "cache {\ndisable\n}",
        "cache {\ndisable success a..b\n}",
        "cache {\nmemory\n}",
        "cache {\nmemory 64\n}",
        "cache {\nmemory 64MiB 3\n}",
        "cache {\nmemory lots\n}",
        "cache {\nmemory 64iB\n}",
        "cache {\nkeeptl\n}",
    ],
)
def test_refused(text):
    with pytest.raises(CorefileError) as caught:
        settings(text)
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.token is not None
        assert diagnostic.message


def test_near_miss_is_suggested():
    with pytest.raises(CorefileError) as caught:
        settings("cache {\nserve_stail 1h\n}")
    assert "serve_stale" in (caught.value.diagnostics[0].hint or "")


def test_zones_are_the_blocks_unless_named():
    assert settings("cache", "example.org").zones == ["example.org."]
    assert settings("cache 30 Sub.Example.org", "example.org").zones == ["sub.example.org."]
    assert settings("cache 10.0.0.0/8").zones == ["10.in-addr.arpa."]


def test_odd_but_accepted_is_warned_about():
    warnings = set_up("cache {\nsuccess 10 5 1 more\n}").warnings
    assert len(warnings) == 2


@pytest.mark.parametrize(("capacity", "warnings"), [(M - 1, 1), (M, 0), (M + 1, 0)])
def test_the_smallest_capacity_is_no_mistake(capacity, warnings):
    assert len(set_up(f"cache {{\nsuccess {capacity}\n}}").warnings) == warnings


@pytest.mark.parametrize(
    ("text", "up_to", "verify", "timeout", "ttl", "recheck"),
    [
        ("serve_stale", 3600, False, 0, 0, 0),
        ("serve_stale 20m", 1200, False, 0, 0, 0),
        ("serve_stale 1h20m", 4800, False, 0, 0, 0),
        ("serve_stale 0m", 0, False, 0, 0, 0),
        ("serve_stale 0", 0, False, 0, 0, 0),
        ("serve_stale 0 verify", 0, True, 0, 0, 0),
        ("serve_stale 0 immediate", 0, False, 0, 0, 0),
        ("serve_stale 0 VERIFY", 0, True, 0, 0, 0),
        ("serve_stale 1h immediate 30s", 3600, False, 0, 30, 0),
        ("serve_stale 1h immediate 30s 30s", 3600, False, 0, 30, 30),
        ("serve_stale 1h immediate 4294967295s", 3600, False, 0, 4294967295, 0),
        ("serve_stale 1h immediate 0", 3600, False, 0, 0, 0),
        ("serve_stale 1h immediate 0 0", 3600, False, 0, 0, 0),
        ("serve_stale 1h verify 100ms", 3600, True, 0.1, 0, 0),
        ("serve_stale 1h verify 100ms 30s", 3600, True, 0.1, 30, 0),
        ("serve_stale 1h verify 100ms 30s 30s", 3600, True, 0.1, 30, 30),
        ("serve_stale 1h verify 100ms 30s 250ms", 3600, True, 0.1, 30, 0.25),
        ("serve_stale 1h verify 0", 3600, True, 0, 0, 0),
        ("serve_stale 1h verify 0 1m", 3600, True, 0, 60, 0),
        ("serve_stale 1h verify 0 0 5m", 3600, True, 0, 0, 300),
        ("serve_stale 1h VERIFY 250ms", 3600, True, 0.25, 0, 0),
    ],
)
def test_serve_stale(text, up_to, verify, timeout, ttl, recheck):
    got = option(text).stale
    assert (got.up_to, got.verify, got.verify_timeout) == (up_to, verify, timeout)
    assert (got.response_ttl, got.recheck) == (ttl, recheck)


@pytest.mark.parametrize(
    ("limit", "options", "timeout"),
    [
        ("", "1h verify 2s", 2.0),
        ("cancel 4s", "1h verify 2s", 2.0),
        ("cancel 1s", "1h verify 2s", 0.75),
        ("cancel 1s", "1h verify", 0.75),
        ("cancel 1s", "1h immediate", 0.0),
    ],
)
def test_the_limit_of_cancel_limits_the_wait_for_an_answer(limit, options, timeout):
    text = f". {{\ncache {{\nserve_stale {options}\n}}\n{limit}\nwhoami\n}}"
    plugins = build(parse(text)).plugins.get_plugins()
    (cache,) = [plugin for plugin in plugins if isinstance(plugin, Cache)]
    assert cache.settings.stale.verify_timeout == timeout


@pytest.mark.parametrize(
    "text",
    [
        "serve_stale 20",
        "serve_stale -20m",
        "serve_stale aa",
        "serve_stale 1m nono",
        "serve_stale 0 after nono",
        "serve_stale 1h immediate 100ms",
        "serve_stale 1h immediate 4294967296s",
        "serve_stale 1h immediate -1s",
        "serve_stale 1h immediate garbage",
        "serve_stale 1h immediate 30s extra",
        "serve_stale 1h immediate 30s -1s",
        "serve_stale 1h immediate 30s 5m1s",
        "serve_stale 1h immediate 30s invalid",
        "serve_stale 1h immediate 30s 30s extra",
        "serve_stale 1h verify -1ms",
        "serve_stale 1h verify garbage",
        "serve_stale 1h verify 100ms 500ms",
        "serve_stale 1h verify 100ms -1s",
        "serve_stale 1h verify 100ms garbage",
        "serve_stale 1h verify 100ms 30s extra",
        "serve_stale 1h verify 100ms 30s -1s",
        "serve_stale 1h verify 100ms 30s 30s extra",
        "serve_stale_policy prefer_positive",
        "serve_stale\nserve_stale_policy",
        "serve_stale\nserve_stale_policy prefer_positive extra",
        "serve_stale\nserve_stale_policy invalid",
        "serve_stale\nserve_stale_policy prefer_positive\nserve_stale_policy prefer_positive",
    ],
)
def test_serve_stale_refused(text):
    with pytest.raises(CorefileError):
        option(text)


@pytest.mark.parametrize(
    ("text", "prefers"),
    [
        ("serve_stale\nserve_stale_policy prefer_positive", True),
        ("serve_stale_policy PREFER_POSITIVE\nserve_stale", True),
        ("serve_stale", False),
    ],
)
def test_policy(text, prefers):
    assert option(text).stale.prefer_positive is prefers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("servfail 1s", 1), ("servfail 5m", 300), ("servfail 0s", 0), ("servfail 0", 0)],
)
def test_servfail(text, seconds):
    assert option(text).servfail == seconds


@pytest.mark.parametrize("text", ["", " 6m", " 20", " -1s", " aa", " 1m invalid"])
def test_servfail_refused(text):
    with pytest.raises(CorefileError):
        option("servfail" + text)


COM, ORG = b"\7example\3com\0", b"\7example\3org\0"


@pytest.mark.parametrize(
    ("text", "denial", "success"),
    [
        ("disable denial example.com Example.org.", (COM, ORG), ()),
        ("disable success example.com example.org", (), (COM, ORG)),
        ("disable denial", (b"\0",), ()),
        ("disable success", (), (b"\0",)),
        ("disable denial example.com\ndisable success example.org", (COM,), (ORG,)),
    ],
)
def test_disable(text, denial, success):
    got = option(text)
    assert (got.denial.except_zones, got.success.except_zones) == (denial, success)


def test_keepttl():
    assert option("keepttl").keep_ttl
    assert not option("").keep_ttl


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 64 << 20), ("2M", 2_000_000), ("1GB", 10**9), ("1048576", 1 << 20)]
)
def test_memory(text, size):
    assert option(f"memory {text}").memory == size
