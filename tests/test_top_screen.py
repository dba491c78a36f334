"""`corepy top` without a terminal: figures of two documents, tables, keys, and unusual texts."""

import copy
import re

import pytest

from corepy.commands.top import numbers_shown as show
from corepy.commands.top.glyphs import Glyphs, cut_name, safe
from corepy.commands.top.key_input import split_keys
from corepy.commands.top.overview import shares_of
from corepy.commands.top.report import report
from corepy.commands.top.screen_table import Column, compose, sort_rows, table
from corepy.commands.top.top_exchange import NEXT, NOW, Polled
from corepy.commands.top.top_figures import figures
from corepy.commands.top.top_session import KEYS, VIEWS, TopScreen
from corepy.server.traffic.latency import BOUNDS

COLORS = re.compile(r"\x1b\[[0-9]*m")
PLAIN = Glyphs(is_plain=True)


def latency(**counts):
    """Numbers of replies by bucket, such as b10=3 for the tenth bucket."""
    return [counts.get(f"b{place}", 0) for place in range(len(BOUNDS) + 1)]


def talkers(key, *names):
    return [
        {key: name, "count": 100 - place, "error": place, "margin": 2, "per_second": 9.5}
        for place, name in enumerate(names)
    ]


def document(**changes):
    """A document of the command `stats`, with all its parts."""
    upstream = {"address": "192.0.2.53:53", "protocol": "udp", "state": "up", "rtt": 0.0012}
    upstream |= {"queries": 60, "failures": 1, "in_flight": 2}
    down = upstream | {"address": "192.0.2.54:53", "state": "down", "rtt": None}
    cache = {"entries": 800, "capacity": 1000, "hits": 1000, "misses": 1000, "evictions": 0}
    node = {"state": "in place", "problems": [], "rules": 12}
    block = {"block": "Corefile:1", "zones": ["."]}
    made = {
        "time": 1000.0,
        "server": {"pid": 812, "uptime": 6000.0, "version": "0.1", "name": "Corefile"},
        "processes": [{"pid": 812, "cpu_seconds": 12.0}, {"pid": 813, "cpu_seconds": 1.0}],
        "memory": {"bytes": 41 << 20, "limit": 128 << 20},
        "totals": {
            "queries": 1000,
            "packet_cache_hits": 600,
            "waited": 100,
            "unanswered": 0,
            "rcodes": {"NOERROR": 900, "NXDOMAIN": 100},
            "latency": latency(b4=1000),
        },
        "recent": {
            "seconds": 10.0,
            "queries_per_second": 12.5,
            "packet_cache_ratio": 0.75,
            "waited_ratio": 0.03,
            "p50": 0.00012,
            "p99": 0.0041,
            "nxdomain_per_second": 0.0,
            "servfail_per_second": 0.5,
            "unanswered_per_second": 0.0,
        },
        "history": {"interval": 10, "queries": [0, 50, 100], "p50": [], "p99": [None, 0.001]},
        "top": {
            "seconds": 75.0,
            "queries": 90000,
            "sampled": 1500,
            "bounds": {"names": 176, "clients": 0},
            "clients": talkers("client", "10.0.0.7", "2001:db8::7"),
            "names": talkers("name", "a.example.", "b.example.", "c.example."),
            "suffixes": talkers("name", "example."),
            "nxdomain": [],
            "servfail": talkers("name", "broken.example."),
        },
        "listeners": [
            {"server": "dns://:53", "protocol": "udp", "connections": None, "waiting": 1},
            {"server": "dns://:53", "protocol": "tcp", "connections": 4, "waiting": 0},
        ],
        "plugins": [
            {"plugin": "cache", **block, "status": {"cache": cache}},
            {"plugin": "forward", **block, "status": {"upstreams": [upstream, down]}},
            {"plugin": "nodecache", "block": None, "zones": [], "status": node},
        ],
    }
    return made | changes


def later(seconds=2.0, **totals):
    """The same server `seconds` later."""
    made = copy.deepcopy(document(time=1000.0 + seconds))
    made["totals"] |= totals
    return made


AFTER = later(
    queries=1400,
    packet_cache_hits=900,
    waited=140,
    unanswered=2,
    rcodes={"NOERROR": 1200, "NXDOMAIN": 198},
    latency=latency(b4=1000, b10=396, b30=4),
)


def test_rates_are_of_the_time_between_two_documents():
    AFTER["processes"][0]["cpu_seconds"] = 12.5
    found = figures(AFTER, document())
    assert found.queries == 200
    assert found.unanswered == 1
    assert found.packet_cache_ratio == 0.75
    assert found.waited_ratio == 0.1
    assert found.rcodes == {"NOERROR": 150, "NXDOMAIN": 49}
    assert found.cpu == 0.25
    assert found.p50 == pytest.approx(BOUNDS[10], rel=0.5)
    assert found.p99 == pytest.approx(BOUNDS[10], rel=0.5)


def other_process():
    made = later()
    made["server"]["pid"] = 900
    return made


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(later(queries=999), id="counts less"),
        pytest.param(later(latency=latency(b4=999)), id="counts less latencies"),
        pytest.param(later(rcodes={"NOERROR": 900}), id="lost an rcode"),
        pytest.param(later(seconds=0.01), id="too early"),
        pytest.param(other_process(), id="another process"),
    ],
)
def test_documents_of_a_restarted_server_are_not_compared(made):
    """The figures are then those that the server has of its last seconds."""
    found = figures(made, document())
    assert (found.before, found.queries, found.p99) == (None, 12.5, 0.0041)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (show.count(9999), "9999"),
        (show.count(12345), "12.3k"),
        (show.count(4.5e9), "4.5G"),
        (show.rate(0.05), "0.05"),
        (show.rate(9.94), "9.9"),
        (show.rate(1234.4), "1234"),
        (show.rate(0), "0"),
        (show.percent(0.99949), "99.9%"),
        (show.percent(1), "100%"),
        (show.seconds(0.0000851), "85us"),
        (show.seconds(0.0012), "1.2ms"),
        (show.seconds(0.45), "450ms"),
        (show.seconds(2.25), "2.2s"),
        (show.age(45.9), "45s"),
        (show.age(190), "3m10s"),
        (show.age(180000), "2d2h"),
        (show.age(3600), "1h"),
        (show.size(512), "512B"),
        (show.size(3 << 20), "3.0MiB"),
        (show.rate(None) + show.percent(None) + show.seconds(None) + show.size(None), "----"),
        (show.age(None) + show.count(None), "--"),
    ],
)
def test_numbers_are_short(shown, text):
    assert shown == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("www.example.org.", "www.example.org."),
        ("a\\032b.example.", "a\\032b.example."),
        ("\x1b]0;owned\x07.example.", "\\x1b]0;owned\\x07.example."),
        ("\x9b31m", "\\x9b31m"),
        ("a\n\tb\x7f", "a\\x0a\\x09b\\x7f"),
        ("\u202emoc.elpmaxe", "\\u202emoc.elpmaxe"),
        ("\u0435xample\U0001f600", "\\u0435xample\\U0001f600"),
    ],
)
def test_texts_of_the_network_cannot_control_the_terminal(name, shown):
    assert safe(name) == shown


def test_names_are_cut_in_the_middle():
    name = "a-very-long-label.of.a.service.svc.cluster.local."
    assert cut_name(name, 20) == "a-very-lo~ter.local."
    assert cut_name(name, 5) == "a-ve~"
    assert cut_name("short.", 20) == "short."


@pytest.mark.parametrize(
    ("data", "keys", "rest"),
    [
        (b"q7", ["q", "7"], b""),
        (b"\x1b[A\x1bOB\x1b[1;5C", ["up", "down", "right"], b""),
        (b"\x1b[5~\x1b[6~\x1b[1~\x1b[4~", ["page up", "page down", "home", "end"], b""),
        (b"\x1b[200~q", ["q"], b""),
        (b"\t\r\x00\xc3\xa4", ["right", "enter"], b""),
        (b"s\x1b", ["s"], b"\x1b"),
        (b"s\x1b[1;", ["s"], b"\x1b[1;"),
        (b"\x1bq", ["escape", "q"], b""),
    ],
)
def test_bytes_become_keys(data, keys, rest):
    assert split_keys(data, is_over=False) == (keys, rest)


def test_an_escape_character_that_nothing_follows_is_a_key():
    assert split_keys(b"\x1b", is_over=True) == (["escape"], b"")


@pytest.mark.parametrize(
    ("values", "graph"),
    [
        ([0, 1, 2, None, 8], "   ▁▁▂ █"),
        ([], " " * 8),
        ([5] * 20, "█" * 8),
        ([0, 0], "      ▁▁"),
    ],
)
def test_graphs_end_at_the_right(values, graph):
    assert PLAIN.graph(values, 8) == graph


def test_graphs_may_be_ascii():
    assert Glyphs(is_ascii=True).graph([1, 4, 8, None], 4) == ".=@ "


def test_colors_are_optional():
    line = [("good", "up"), ("", " and "), ("bar", "on")]
    assert compose(Glyphs(), line, 80) == "\x1b[32mup\x1b[0m and \x1b[7mon\x1b[0m"
    assert compose(Glyphs(has_colors=False), line, 80) == "up and \x1b[7mon\x1b[0m"
    assert compose(PLAIN, line, 80) == "up and on"


ROWS = [{"n": 2}, {"n": None}, {"n": 3}, {"n": 1}]
NUMBER = Column("N", lambda row: str(row["n"]), lambda row: row["n"])


def test_rows_without_a_value_are_last():
    assert [row["n"] for row in sort_rows(ROWS, NUMBER)] == [3, 2, 1, None]
    assert [row["n"] for row in sort_rows(ROWS, NUMBER, is_reversed=True)] == [1, 2, 3, None]
    assert sort_rows(ROWS, None) == ROWS
    assert sort_rows(ROWS, None, is_reversed=True) == ROWS[::-1]


def test_columns_that_do_not_fit_are_left_out_by_priority():
    columns = [
        Column("NAME", lambda row: "x" * 30, lambda row: 0),
        Column("KEPT", lambda row: "1", lambda row: 0, 6),
        Column("LEAST", lambda row: "2", lambda row: 0, 6, priority=2),
        Column("LESS", lambda row: "3", lambda row: 0, 6, priority=1),
    ]

    def head(width):
        lines = table(columns, [{}], width)
        assert all(sum(len(text) for _, text in line) <= width for line in lines)
        return "".join(text for _, text in lines[0]).split()

    assert head(80) == ["NAME", "KEPT", "LEAST", "LESS"]
    assert head(45) == ["NAME", "KEPT", "LESS"]
    assert head(34) == ["NAME", "KEPT"]
    assert head(10) == ["NAME"]


@pytest.mark.parametrize(
    ("wanted", "rows", "given"),
    [([5, 1, 2], 6, [3, 1, 2]), ([1, 1], 9, [1, 1]), ([4], 0, [0]), ([], 3, [])],
)
def test_tables_share_the_rows(wanted, rows, given):
    assert shares_of(wanted, rows) == given


# The screen as a whole.


def shown(screen, width=80, height=24):
    lines = [COLORS.sub("", line) for line in screen.lines(width, height)]
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    return lines


@pytest.fixture
def screen():
    screen = TopScreen(Glyphs(), 2.0)
    screen.take(Polled(document(), None, "", (812,)))
    screen.take(Polled(AFTER, document(), "", (812,)))
    return screen


def test_the_overview_has_all_that_matters_on_a_small_screen(screen):
    lines = shown(screen)
    text = "\n".join(lines)
    assert lines[0].startswith("corepy 0.1  pid 812 and 1 more  up 1h40m  mem 41.0MiB/128.0MiB")
    assert "200/s  packet cache 75.0%  cache 50.0%  waited 10.0%" in lines[1]
    assert "NOERROR 150/s  NXDOMAIN 49/s  no reply 1.0/s" in lines[2]
    assert re.search(r"queries/s .* ▁▄█ max 10", lines[3])
    assert "max 1.0ms" in lines[4]
    assert re.search(r"nodecache +in place +rules 12", text)
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["192.0.2.54:53"][1:4] == ["udp", "down", "-"]
    assert rows["192.0.2.53:53"][1:4] == ["udp", "up", "1.2ms"]
    assert text.index("192.0.2.54") < text.index("192.0.2.53")  # problems first
    assert rows["cache"][1:4] == [".", "50.0%", "800"]
    assert "dns://:53" in rows
    assert "10.0.0.7" in rows
    assert rows["10.0.0.7"][2] == "a.example."
    assert lines[-1].startswith("1over 2clients 3names")
    assert lines[-1].endswith("q quit")


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (40, 10), (20, 5), (7, 3), (1, 1)])
def test_every_view_fits_into_every_size(screen, size):
    for key in VIEWS:
        screen.press(key)
        shown(screen, *size)
    screen.press("h")
    shown(screen, *size)


def test_lists_show_their_error_bounds(screen):
    screen.press("3")
    lines = shown(screen)
    assert lines[2] == "Names with the most queries  1 to 3 of 3"
    assert lines[3] == "last 75 s, 90.0k queries, 1500 sampled; not listed: at most 176"
    assert lines[4].split() == ["NAME", "QUERIES", "ERROR", "PER", "S"]
    assert lines[6].split() == ["b.example.", "99", "-3", "+2", "9.5"]


def test_every_key_of_the_help_has_an_effect(screen):
    assert {key for keys, _ in KEYS for key in keys.split(", ") if len(key) == 1} <= {
        *"sSrpnh?q+-0"
    }
    assert screen.press("n") == NEXT
    assert screen.press(" ") == NOW
    screen.press("h")
    assert "Keys" in shown(screen)[0]
    screen.press("q")  # leaves the help
    assert not screen.is_over
    screen.press("q")
    assert screen.is_over


def names(screen):
    return [line.split()[0] for line in shown(screen)[5:] if ".example." in line]


def test_lists_are_sorted_by_a_key(screen):
    screen.press("3")
    assert names(screen) == ["a.example.", "b.example.", "c.example."]
    for key in "sss":  # by name, by queries, by error
        screen.press(key)
    assert names(screen) == ["c.example.", "b.example.", "a.example."]
    screen.press("r")
    assert names(screen) == ["a.example.", "b.example.", "c.example."]
    screen.press("S")
    screen.press("S")
    screen.press("r")
    assert names(screen) == ["c.example.", "b.example.", "a.example."]


def test_lists_are_scrolled(screen):
    many = document()
    many["top"]["names"] = talkers("name", *(f"n{place}.example." for place in range(50)))
    screen.take(Polled(many, None, "", ()))
    screen.press("3")
    assert names(screen)[0] == "n0.example."
    screen.press("down")
    assert names(screen)[0] == "n1.example."
    page = len(names(screen))
    screen.press("page down")
    assert names(screen)[0] == f"n{page + 1}.example."
    screen.press("end")
    assert names(screen)[-1] == "n49.example."
    assert f"{51 - page} to 50 of 50" in shown(screen)[2]
    screen.press("home")
    screen.press("up")
    assert names(screen)[0] == "n0.example."


def test_views_follow_each_other(screen):
    for _ in VIEWS:
        screen.press("right")
    assert screen.view == "1"
    screen.press("left")
    assert screen.view == "0"


def test_the_interval_has_steps(screen):
    screen.press("+")
    assert screen.interval == 1.0
    for _ in range(20):
        screen.press("-")
    assert screen.interval == 60.0


def test_a_paused_screen_does_not_change(screen):
    screen.press("p")
    before = shown(screen)
    assert "paused" in before[-2]
    screen.take(Polled(document(time=2000.0), None, "", ()))
    assert shown(screen) == before
    screen.press("p")
    screen.take(Polled(document(time=2000.0), None, "", ()))
    assert shown(screen) != before


def test_problems_are_shown_above_the_menu(screen):
    screen.take(Polled(AFTER, None, "the server is \x1b gone", ()))
    assert shown(screen)[-2] == "the server is \\x1b gone; trying again; the figures are old"
    screen.take(Polled(AFTER, None, "", (812, 900)))
    assert "processes 812, 900" in shown(screen)[-2]


def test_a_screen_without_figures_is_empty():
    screen = TopScreen(Glyphs(), 2.0)
    assert shown(screen)[0] == ""
    screen.take(Polled(None, None, "no server runs here", ()))
    assert shown(screen)[-2] == "no server runs here; trying again"


def test_documents_of_other_versions_are_shown():
    """A server may have more sections, or lack some."""
    lean = document(plugins=[{"plugin": "odd", "status": {"x": [1, {"y": True}], "z": None}}])
    for key in ("top", "history", "recent", "listeners", "memory"):
        del lean[key]
    text = report(lean, PLAIN, 100)
    assert "x 1 (y yes), z -" in text
    assert "Clients" not in text


@pytest.mark.parametrize(
    "status",
    [
        pytest.param("busy", id="text"),
        pytest.param(["busy", 1], id="list"),
        pytest.param({"upstreams": ["192.0.2.1"], "problems": "busy", "cache": 5}, id="others"),
        pytest.param({"upstreams": {"a": 1}, "state": ["busy"], "cache": None}, id="objects"),
        pytest.param(
            {
                "upstreams": [{"address": "busy", "rtt": "x", "queries": [], "protocol": 6}],
                "cache": {"entries": "many", "capacity": True, "hits": {}, "bytes": "x"},
            },
            id="no numbers",
        ),
    ],
)
def test_plugins_of_third_parties_may_report_anything(status):
    odd = document(plugins=[{"plugin": "odd", "block": None, "zones": [], "status": status}])
    screen = TopScreen(Glyphs(), 2.0)
    screen.take(Polled(odd, None, "", ()))
    screen.take(Polled(odd | {"time": 1002.0}, odd, "", ()))
    for key in VIEWS:
        screen.press(key)
        for _ in range(9):  # by each column
            shown(screen)
            screen.press("s")
    assert "busy" in report(odd, PLAIN, 200)


def test_the_report_has_every_table():
    text = report(document(), PLAIN, 80)
    assert "queries    12/s  packet cache 75.0%" in text
    assert "SERVFAIL 0.50/s" in text
    for title in ("Clients", "Names with", "Suffixes", "SERVFAIL", "Upstreams", "Caches", "Other"):
        assert title in text
    assert "NXDOMAIN)" not in text  # it has no rows
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
