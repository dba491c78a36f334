"""Zones that are copied from an API: copies, failures, reloads, and the names that change."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy.plugin import Fallthrough, StartupError
from corepy.testing import Recorder, helper_module, link, make_request, serve, until, with_handlers
from corepy.zone import ZoneBuilder, polled_api, polled_copy, polled_handler
from corepy.zone.polled_api import PolledZone, PollError, ZoneIntake, hint_of_status
from corepy.zone.polled_names import affected_names

helpers = helper_module(__file__, "polled_zones")
API, SOA, NS, Forgotten = helpers.API, helpers.SOA, helpers.NS, helpers.Forgotten
polled, running, absolute = helpers.polled, helpers.running, helpers.absolute

ZONE = PolledZone(from_text("example."), "Z1")
A = ("A", "192.0.2.1")


def run(scenario):
    asyncio.run(scenario())


async def answer(handler, name, qtype="A", below=None):
    """The rcode, the rdata of the answer, and whether it is authoritative."""
    top = link([handler, below or Recorder()])
    reply = await top.serve_dns(make_request(name, qtype))
    return reply.rcode, [str(rr.rdata) for rr in reply.record.rr], reply.aa


def zone_of(*records):
    builder = ZoneBuilder(ZONE.origin)
    intake = ZoneIntake(ZONE)
    for owner, ttl, rtype, rdata in (SOA, NS, *records):
        intake.add_text(absolute(owner), ttl, rtype, rdata)
    assert not intake.refusals
    assert builder.origin == ZONE.origin
    return intake.build()


# -- copies in order


PRIVATE = [
    ("both", 60, "A", "192.0.2.1"),
    ("nodata", 60, "TXT", "x"),
    ("a.empty", 60, "A", "192.0.2.1"),
    ("cut", 60, "NS", "ns.cut.example."),
    ("alias", 60, "CNAME", "public.example."),
    ("*.wild", 60, "A", "192.0.2.3"),
]
PUBLIC = [
    ("both", 60, "A", "198.51.100.1"),
    ("nodata", 60, "A", "198.51.100.2"),
    ("public", 60, "A", "198.51.100.3"),
    ("empty", 60, "A", "198.51.100.4"),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("both", (0, ["192.0.2.1"], True)),
        ("nodata", (0, [], True)),
        ("public", (0, ["198.51.100.3"], True)),
        ("empty", (0, ["198.51.100.4"], True)),
        ("x.wild", (0, ["192.0.2.3"], True)),
        ("none", (3, [], True)),
        ("x.cut", (0, [], False)),
    ],
)
def test_the_first_copy_with_records_of_a_name_answers(name, expected):
    async def scenario():
        api = API(private=PRIVATE, public=PUBLIC)
        async with running(polled(api, "private", "public")) as handler:
            assert await answer(handler, f"{name}.example.") == expected

    run(scenario)


@pytest.mark.parametrize("ids", [("private",), ("private", "public")])
def test_names_without_an_answer_fall_through_but_not_those_without_this_type(ids):
    async def scenario():
        below = Recorder()
        api = API(private=PRIVATE, public=PUBLIC)
        handler = polled(api, *ids, fallthrough=Fallthrough(["."]))
        async with running(handler):
            for name in ("none", "x.cut", "nodata", "both"):
                await answer(handler, f"{name}.example.", below=below)
            await answer(handler, "elsewhere.test.", below=below)
        assert [it.name for it in below.requests] == [
            "none.example.",
            "x.cut.example.",
            "elsewhere.test.",
        ]

    run(scenario)


def test_an_alias_continues_in_another_copy():
    api = API(private=PRIVATE, public=PUBLIC)
    plugins = with_handlers(polled=lambda: polled(api, "private", "public"))
    with serve("example {\nbind 127.0.0.1\npolled\n}", plugins=plugins) as server:
        reply = server.ask("alias.example.")
        assert [str(rr.rdata) for rr in reply.rr] == ["public.example.", "198.51.100.3"]
        assert (reply.header.rcode, reply.auth) == (0, [])


def test_a_name_waits_for_the_copies_before_the_one_that_has_it():
    async def scenario():
        api = API(private=PRIVATE, public=PUBLIC)
        api.zones["private"] = []
        async with running(polled(api, "private", "public")) as handler:
            assert (await answer(handler, "public.example."))[0] == 2
            assert not handler.ready()
        async with running(polled(api, "public", "private")) as handler:
            assert (await answer(handler, "public.example."))[0] == 0
            assert (await answer(handler, "none.example."))[0] == 2

    run(scenario)


def test_without_zones_everything_is_passed_on():
    async def scenario():
        below = Recorder()
        async with running(polled(API())) as handler:
            await answer(handler, "www.example.", below=below)
            assert (handler.ready(), handler.status()) == (True, None)
        assert len(below.requests) == 1

    run(scenario)


def test_zones_are_not_transferred():
    async def scenario():
        async with running(polled(API(Z1=[]), "Z1")) as handler:
            assert handler.transfer_zone(ZONE.origin, None) is None
            assert len(handler.zones) == 0
            assert (await answer(handler, "example.", "AXFR"))[0] == 5

    run(scenario)


# -- failures


def test_the_last_copy_stays_in_use_while_the_api_fails(caplog):
    caplog.set_level(logging.INFO)

    async def scenario():
        api = API(Z1=[("www", 60, *A)])
        async with running(polled(api, "Z1", refresh=0.001)) as handler:
            api.failure = OSError("connection refused")
            await until(lambda: handler.status()["problems"])
            failed = api.lists
            await until(lambda: api.lists > failed + 2)
            assert (await answer(handler, "www.example."))[:2] == (0, ["192.0.2.1"])
            (problem,) = handler.status()["problems"]
            assert problem == "zone example. (Z1): connection refused; the copy is 0 s old"
            assert handler.status()["state"] == "API failing"
            assert handler.ready()
            api.put("Z1", ("www", 60, "A", "192.0.2.2"))
            api.failure = None
            await until(lambda: not handler.status()["problems"])
            await until(lambda: handler.copies[0].current.records == 3)
            assert (await answer(handler, "www.example."))[:2] == (0, ["192.0.2.2"])

    run(scenario)
    lines = [it.message for it in caplog.records if it.name == "corepy.plugin.polled"]
    assert lines == [
        "zone example. (Z1) is copied: serial 1, 3 records",
        "zone example. (Z1): connection refused; the last copy stays in use",
        "zone example. (Z1): the API answers again",
        "zone example. (Z1) has changed: serial 1, 3 records",
    ]


def test_a_server_starts_while_the_api_fails_and_copies_the_zone_later(monkeypatch):
    monkeypatch.setattr(polled_copy, "FIRST_RETRY", 0.001)

    async def scenario():
        api = API(Z1=[("www", 60, *A)])
        api.failure = PollError("HTTP status 503", retry_after=0.001)
        async with running(polled(api, "Z1", refresh=0.001)) as handler:
            assert (await answer(handler, "www.example."))[0] == 2
            assert not handler.ready()
            assert handler.status()["state"] == "not copied"
            explained = handler.explain_state(make_request("www.example."))
            assert explained["state"] == "not loaded"
            assert explained["problem"] == "Z1: HTTP status 503"
            api.failure = None
            await until(handler.ready)
            assert (await answer(handler, "www.example."))[0] == 0
            explained = handler.explain_state(make_request("www.example."))
            assert (explained["state"], explained["hosted zone"]) == ("exact", "Z1")

    run(scenario)


def test_a_zone_that_the_api_does_not_have_refuses_the_start(caplog):
    async def scenario():
        api = API(Z1=[])
        with pytest.raises(StartupError, match=r"^zone example\. \(Z2\): no such"):
            async with running(polled(api, "Z1", "Z2")):
                pass
        assert (api.clients, api.closed) == (1, 1)

    run(scenario)
    assert [it.message for it in caplog.records if it.levelname == "WARNING"] == [
        "zone example. (Z2): no such hosted zone; there is no copy"
    ]


def test_a_zone_that_is_deleted_later_stays_served():
    async def scenario():
        api = API(Z1=[("www", 60, *A)])
        async with running(polled(api, "Z1", refresh=0.001)) as handler:
            del api.zones["Z1"]
            await until(lambda: handler.status()["problems"])
            assert (await answer(handler, "www.example."))[0] == 0
            async with running(polled(api, "Z1", refresh=0.001)) as later:  # a reload
                assert (await answer(later, "www.example."))[0] == 0

    run(scenario)


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyError("name"), MemoryError()])
def test_an_unexpected_failure_costs_one_list(failure, caplog):
    async def scenario():
        api = API(Z1=[("www", 60, *A)])
        async with running(polled(api, "Z1", refresh=0.001)) as handler:
            api.failure = failure
            failed = api.lists
            await until(lambda: api.lists > failed + 3)
            assert type(failure).__name__ in handler.status()["problems"][0]
            assert (await answer(handler, "www.example."))[0] == 0

    run(scenario)
    assert len([it for it in caplog.records if it.exc_info]) == 1


def test_a_cache_that_fails_does_not_end_the_lists(caplog):
    async def forget(_):
        if len(seen) == 1:
            raise RuntimeError("a bug")
        seen.append(None)

    seen: list[None] = []

    async def scenario():
        api = API(Z1=[("www", 60, *A)])
        async with running(polled(api, "Z1", refresh=0.001), forget) as handler:
            api.put("Z1", ("www", 60, "A", "192.0.2.2"))
            listed = api.lists
            await until(lambda: api.lists > listed + 3)
            assert (await answer(handler, "www.example."))[:2] == (0, ["192.0.2.2"])
            assert not handler.copies[0].is_forgetting

    run(scenario)
    assert [str(it.exc_info[1]) for it in caplog.records if it.exc_info] == ["a bug"]


def test_a_list_that_hangs_ends(monkeypatch):
    monkeypatch.setattr(polled_copy, "LONGEST_LIST", 0.001)

    async def hang(zone, intake):
        await asyncio.Event().wait()

    async def scenario():
        api = API()
        api.fetch = hang
        async with running(polled(api, "Z1")) as handler:
            assert "takes more than 0.001 s" in handler.copies[0].problem

    run(scenario)


def test_the_handlers_of_a_generation_share_the_time_that_a_start_waits(monkeypatch):
    first, reload = helpers.context_for(), helpers.context_for(replaces=True)
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr(polled_handler, "time", clock)
    assert polled_handler._patience(first) == polled_handler.LONGEST_WAIT
    assert polled_handler._patience(reload) == polled_handler.LONGEST_WAIT_AT_RELOAD
    clock.monotonic = lambda: 102.0
    assert polled_handler._patience(first) == polled_handler.LONGEST_WAIT - 2
    clock.monotonic = lambda: 200.0
    assert polled_handler._patience(first) == polled_handler.SHORTEST_WAIT


def test_the_pause_that_the_api_asks_for_is_kept_within_bounds(monkeypatch):
    async def scenario():
        api = API(Z1=[])
        handler = polled(api, "Z1")
        for asked, kept in ((7.0, 7.0), (1e9, polled_copy.LONGEST_RETRY_AFTER), (None, 0.0)):
            api.failure = PollError("HTTP status 429", retry_after=asked)
            async with running(handler):
                (copy,) = handler.copies
                assert copy._retry_after == kept
            handler = polled(api, "Z1")

    run(scenario)


# -- records


def test_a_record_that_is_not_valid_costs_only_itself_and_is_logged_once(caplog):
    bad = [
        ("www", 60, *A),
        ("bad", 60, "A", "192.0.2.256"),
        ("bad", 60, "YOLO", "x"),
        ("bad", -1, "A", "192.0.2.1"),
        ("bad", 2**31, "A", "192.0.2.1"),
        ("www", 60, "CNAME", "other.example."),
        ("x" * 64, 60, "A", "192.0.2.1"),
        ("elsewhere.test.", 60, "A", "192.0.2.1"),
        ("www", 60, "TXT", '"' + "x" * 256 + '"'),
        ("big", 60, "TXT", " ".join(["x" * 255] * 400)),
    ]

    async def scenario():
        api = API(Z1=bad)
        async with running(polled(api, "Z1", refresh=0.001)) as handler:
            await until(lambda: api.lists > 3)
            assert (await answer(handler, "www.example."))[:2] == (0, ["192.0.2.1"])
            assert (handler.status()["ignored"], handler.status()["records"]) == (8, 4)

    run(scenario)
    lines = [it.message for it in caplog.records if "ignored" in it.message]
    assert len(lines) == polled_copy.MOST_LOGGED + 1
    assert lines[0].startswith("zone example. (Z1): a record is ignored: bad.example. A: ")
    assert lines[-1] == "zone example. (Z1): 3 more records are ignored"


def test_a_list_has_bounds(monkeypatch):
    monkeypatch.setattr(polled_api, "MOST_RECORDS", 3)
    monkeypatch.setattr(polled_api, "MOST_PAGES", 2)
    monkeypatch.setattr(polled_api, "MOST_REPORTED", 2)
    intake = ZoneIntake(ZONE)
    for _ in range(3):
        intake.add(from_text("www.example."), 60, 1, b"\1\2\3\4")
        intake.refuse("x\n" * 100, "A", "reason")
    assert (len(intake.refused), intake.refusals) == (1, 3)
    assert "\n" not in "".join(intake.refused)
    intake.refused.clear()
    intake.add_text("a.example.", 1, "T" * 100_000, "x")
    assert len("".join(intake.refused)) < 600
    with pytest.raises(PollError, match="more than 3 records"):
        intake.add(from_text("www.example."), 60, 1, b"\1\2\3\4")
    intake.begin_page(1)
    intake.begin_page(1)
    with pytest.raises(PollError, match="does not end: 3 pages, 3 bytes"):
        intake.begin_page(1)


TEXT = st.text(st.characters(max_codepoint=0x2FF), max_size=20)


@given(TEXT, st.integers(), TEXT, TEXT)
def test_no_text_of_an_api_raises(owner, ttl, rtype, rdata):
    intake = ZoneIntake(ZONE)
    intake.add_text(owner, ttl, rtype, rdata)
    assert all(line.isprintable() for line in intake.refused)


def test_hints_distinguish_statuses():
    hints = {hint_of_status(status) for status in (401, 403, 404, 429, 500)}
    assert len(hints) == 5
    assert hint_of_status(302) == ""


# -- reloads


def test_a_reload_lists_nothing_again_and_shares_the_client():
    async def scenario():
        api = API(Z1=[("www", 60, *A)], Z2=[])
        async with running(polled(api, "Z1")) as first:
            api.failure = OSError("refused")
            forgotten = Forgotten()
            async with running(polled(api, "Z1"), forgotten) as second:
                assert (await answer(second, "www.example."))[0] == 0
                assert second.inputs == first.inputs
            api.failure = None
            assert (api.lists, api.clients, api.closed) == (1, 1, 0)
            assert not forgotten.predicates
            async with running(polled(api, "Z1", "Z2")) as third:
                assert third.inputs != first.inputs
            assert (api.lists, api.closed) == (2, 0)
        assert api.closed == 1

    run(scenario)


def test_a_reload_with_other_settings_begins_with_the_copy():
    async def scenario():
        api, other = API(Z1=[("www", 60, *A)]), API()
        other.failure = OSError("refused")
        async with running(polled(api, "Z1", place="here")) as first:
            api.failure = OSError("refused")
            async with running(polled(api, "Z1", refresh=1800.0)) as second:
                assert (await answer(second, "www.example."))[0] == 0
                assert second.inputs == first.inputs
            async with running(polled(other, "Z1", place="here")) as third:
                assert (await answer(third, "www.example."))[0] == 0
            async with running(polled(other, "Z1", place="there")) as fourth:
                assert (await answer(fourth, "www.example."))[0] == 2
            async with running(polled(other, "Z1")) as fifth:
                assert (await answer(fifth, "www.example."))[0] == 2

    run(scenario)


def test_caches_start_empty_while_replies_of_an_earlier_version_are_removed():
    async def scenario():
        api = API(Z1=[("www", 60, *A)])
        handler = polled(api, "Z1", refresh=0.001)
        seen = []

        async def forget(_):
            seen.append(handler.inputs)

        async with running(handler, forget):
            assert seen == [None]
            before = handler.inputs
            api.put("Z1", ("www", 60, "A", "192.0.2.2"))
            await until(lambda: handler.inputs not in (before, None))
            assert seen == [None, None]

    run(scenario)


def test_nothing_is_listed_for_one_query_offline():
    async def scenario():
        api = API(Z1=[])
        async with running(polled(api, "Z1"), offline=True) as handler:
            assert (await answer(handler, "www.example."))[0] == 2
        assert api.lists == api.clients == 0

    run(scenario)


# -- names to forget


CHANGES = {
    "an address": (
        [("www", 60, *A)],
        [("www", 60, "A", "192.0.2.2")],
        "www x.www",
        "www2 example.",
    ),
    "a TTL": ([("www", 60, *A)], [("www", 30, *A)], "www", "www2"),
    "a new name": ([], [("a.b", 60, *A)], "a.b b x.b", "c x.c"),
    "a name that is gone": ([("a.b", 60, *A)], [], "a.b b x.b", "c x.c"),
    "a wildcard": ([], [("*.w", 60, *A)], "w x.w y.x.w *.w", "www"),
    "a wildcard at the origin": ([], [("*", 60, *A)], "anything www", "test."),
    "an alias": (
        [("www", 60, *A), ("alias", 60, "CNAME", "WWW.example.")],
        [("www", 60, "A", "192.0.2.2"), ("alias", 60, "CNAME", "WWW.example.")],
        "www alias",
        "other",
    ),
    "aliases of aliases": (
        [("a", 60, "CNAME", "b.example."), ("b", 60, "CNAME", "c.example."), ("c", 60, *A)],
        [("a", 60, "CNAME", "b.example."), ("b", 60, "CNAME", "c.example.")],
        "a b c",
        "d",
    ),
    "a mail exchanger": (
        [("mx", 60, *A), ("mail", 60, "MX", "10 mx.example.")],
        [("mail", 60, "MX", "10 mx.example.")],
        "mx mail",
        "other",
    ),
    "servers of a child": (
        [("ns.cut", 60, *A), ("cut", 60, "NS", "ns.cut.example.")],
        [("cut", 60, "NS", "ns.cut.example.")],
        "x.cut cut",
        "other",
    ),
    "texts of the origin": ([], [("@", 60, "TXT", "x")], "example.", "www"),
    "targets of the origin": (
        [("mx", 60, *A), ("@", 60, "MX", "10 mx.example.")],
        [("@", 60, "MX", "10 mx.example.")],
        "example. mx",
        "www",
    ),
    "servers of the origin": ([], [("@", 60, "NS", "ns2.example.")], "example. www", "test."),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_names_are_forgotten_and_no_others(change):
    before, after, affected, others = CHANGES[change]
    is_affected = affected_names(zone_of(*before), zone_of(*after))
    for name in affected.split():
        assert is_affected(from_text(absolute(name))), name
    for name in others.split():
        assert not is_affected(from_text(absolute(name))), name


def test_names_of_another_copy_that_refer_to_a_changed_name_are_forgotten():
    before, after = zone_of(), zone_of(("www", 60, *A))
    other = zone_of(("alias", 60, "CNAME", "www.example."))
    assert affected_names(before, after, [other])(from_text("alias.example."))
    assert affected_names(after, zone_of(("www", 60, *A))) is None


NAMES = st.sampled_from(["a", "b", "a.b", "*.b", "*", "c.a.b", "x.b", "*.a.b"])
RDATA = st.sampled_from(
    [
        *[("A", f"192.0.2.{number}") for number in range(2)],
        *[("CNAME", f"{name}.example.") for name in ("a", "x.b", "a.b")],
        *[("MX", f"1 {name}.example.") for name in ("b", "x.b")],
        ("NS", "a.b.example."),
    ]
)
RECORDS = st.lists(st.tuples(NAMES, RDATA), max_size=6)


@given(RECORDS, RECORDS)
def test_no_reply_changes_for_a_name_that_is_not_forgotten(before, after):
    def build(records):
        intake = ZoneIntake(ZONE)
        for owner, ttl, rtype, rdata in (SOA, NS, *((n, 60, *r) for n, r in records)):
            intake.add_text(absolute(owner), ttl, rtype, rdata)
        return intake.build()

    old, new = build(before), build(after)
    is_affected = affected_names(old, new) or (lambda name: False)
    for name in ("a", "b", "a.b", "x.b", "y.x.b", "c.a.b", "z.c.a.b", "q", "x.q", "*.b"):
        for qtype in ("A", "MX", "NS"):
            request = make_request(f"{name}.example.", qtype)
            if not is_affected(request.name_wire):
                replies = [helpers.reply_of(zone, request) for zone in (old, new)]
                assert replies[0] == replies[1], (name, qtype)
