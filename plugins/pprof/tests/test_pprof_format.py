"""The format: what is encoded is read back, by an own decoder and by Debian's protoc."""

import gzip
import json
import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.testing.profiles import decode
from corepy_pprof.activities import Activity
from corepy_pprof.cpu import CpuProfiler, Event
from corepy_pprof.frames import RawStack
from corepy_pprof.profile import Frame, Profile, Sample, ValueType, combine, difference, total
from corepy_pprof.protobuf import encode
from corepy_pprof.text import as_goroutines, as_text
from corepy_pprof.timeline import Moment, Timeline, encode_timelines, timeline_of

INNER = Frame("pkg.inner", "/a/pkg.py", 12, 10)
OUTER = Frame("pkg.Outer.run", "/a/pkg.py", 30, 20)
NS = ValueType("cpu", "nanoseconds")
TYPES = ValueType("samples", "count"), NS
PROFILE = Profile(
    "profile",
    TYPES,
    [
        Sample((INNER, OUTER), (3, 30_000_000)),
        Sample((OUTER,), (1, -5), (("thread", "ärger"),)),
        Sample((), (0, 1 << 62)),
    ],
    NS,
    10_000_000,
    1_800_000_000_000_000_000,
    5_000_000_000,
    ["one", "two"],
)

# The part of profile.proto that is used, as its documentation numbers the fields.
SCHEMA = """
syntax = "proto3";
message Profile {
  repeated ValueType sample_type = 1; repeated Sample sample = 2; repeated Mapping mapping = 3;
  repeated Location location = 4; repeated Function function = 5; repeated string string_table = 6;
  int64 time_nanos = 9; int64 duration_nanos = 10; ValueType period_type = 11; int64 period = 12;
  repeated int64 comment = 13; int64 default_sample_type = 14;
}
message ValueType { int64 type = 1; int64 unit = 2; }
message Sample { repeated uint64 location_id = 1; repeated int64 value = 2; repeated Label label = 3; }
message Label { int64 key = 1; int64 str = 2; }
message Mapping {
  uint64 id = 1; int64 filename = 5; bool has_functions = 7; bool has_filenames = 8;
  bool has_line_numbers = 9; bool has_inline_frames = 10;
}
message Location { uint64 id = 1; uint64 mapping_id = 2; repeated Line line = 4; }
message Line { uint64 function_id = 1; int64 line = 2; }
message Function { uint64 id = 1; int64 name = 2; int64 system_name = 3; int64 filename = 4; int64 start_line = 5; }
"""


def expected(profile):
    return [
        (
            tuple((it.function, it.file, it.line, it.start) for it in sample.stack),
            sample.values,
            sample.labels,
        )
        for sample in profile.samples
    ]


def test_a_profile_is_read_back():
    found = decode(encode(PROFILE))
    assert found.samples == expected(PROFILE)
    assert found.types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert (found.period_type, found.period) == (("cpu", "nanoseconds"), 10_000_000)
    assert (found.time, found.duration) == (1_800_000_000_000_000_000, 5_000_000_000)
    assert (found.comments, found.preferred) == (["one", "two"], "cpu")
    assert found.symbols == [[1, 1, 1, 1]]  # go tool pprof looks for no symbols then


def test_protoc_reads_it(tmp_path):
    (tmp_path / "own.proto").write_text(SCHEMA)
    content = gzip.decompress(encode(PROFILE))

    def protoc(verb, data):
        command = ["protoc", f"--{verb}=Profile", f"-I{tmp_path}", str(tmp_path / "own.proto")]
        done = subprocess.run(command, input=data, capture_output=True, check=True)
        assert not done.stderr
        return done.stdout

    text = protoc("decode", content)
    assert text.count(b"\nsample {") == 3
    assert b'string_table: "pkg.inner"' in text
    again = protoc("encode", text)
    assert len(again) == len(content)  # no field is unknown or written twice
    assert vars(decode(again)) == vars(decode(content))


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
FRAMES = st.builds(Frame, TEXT, TEXT, st.integers(0, 2**31), st.integers(0, 2**31))
NUMBER = st.integers(-(2**63), 2**63 - 1)
SAMPLES = st.builds(
    Sample,
    st.lists(FRAMES, max_size=4).map(tuple),
    st.tuples(NUMBER, NUMBER),
    st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(SAMPLES, max_size=5), NUMBER, st.lists(TEXT, max_size=3))
def test_any_profile_is_read_back(samples, time, comments):
    profile = Profile("x", TYPES, samples, NS, 1, time, 0, comments)
    found = decode(encode(profile))
    assert found.samples == expected(profile)
    assert (found.time, found.comments) == (time, comments)


def test_a_name_that_is_no_unicode_is_replaced():
    profile = Profile("x", (NS,), [Sample((Frame("f", "/\udcff", 1),), (1,))], NS)
    ((stack, _, _),) = decode(encode(profile)).samples
    assert stack == (("f", "/?", 1, 0),)


def test_sums_and_differences():
    one, two = Sample((INNER,), (1, 10)), Sample((OUTER,), (2, 20))
    labelled = Sample((INNER,), (5, 50), (("thread", "t"),))
    assert total([one, two, one, labelled]) == [Sample((INNER,), (2, 20)), two, labelled]
    before = Profile("x", TYPES, [one, two], NS, time=100)
    after = Profile("x", TYPES, [two, two, labelled], NS, time=350)
    change = difference(before, after)
    assert change.samples == [Sample((INNER,), (-1, -10)), Sample((OUTER,), (2, 20)), labelled]
    assert (change.time, change.duration) == (100, 250)


def test_counts_as_text():
    count = (ValueType("goroutine", "count"),)
    samples = [Sample((OUTER,), (1,), (("task", "a b"),)), Sample((INNER, OUTER), (3,))]
    profile = Profile("goroutine", count, samples, count[0], comments=["process 7"])
    assert as_text(profile) == (
        "goroutine profile: total 4\n"
        "3 @ 0x1 0x2\n#\t0x1\tpkg.inner\t/a/pkg.py:12\n#\t0x2\tpkg.Outer.run\t/a/pkg.py:30\n\n"
        '1 @ 0x2\n# labels: {"task": "a b"}\n#\t0x2\tpkg.Outer.run\t/a/pkg.py:30\n\n'
        "# process 7\n"
    )


def test_memory_and_delays_as_text():
    types = ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes")
    heap = Profile("heap", types, [Sample((INNER,), (2, 640))], types[1])
    stack = "#\t0x1\tpkg.inner\t/a/pkg.py:12\n\n"
    assert as_text(heap) == (
        f"heap profile: 2: 640 [2: 640] @ heap/1\n2: 640 [2: 640] @ 0x1\n{stack}"
    )
    types = ValueType("contentions", "count"), ValueType("delay", "nanoseconds")
    block = Profile("block", types, [Sample((INNER,), (2, 640))], types[0])
    head = "--- contention:\ncycles/second=1000000000\n"
    assert as_text(block) == f"{head}640 2 @ 0x1\n{stack}"
    empty = Profile("mutex", types, [], types[0])
    assert as_text(empty) == "--- mutex:\ncycles/second=1000000000\n"


def marked():
    pass


CODE = marked.__code__
PLACE = RawStack((CODE,), (0,))


def test_goroutines():
    found = as_goroutines(
        [
            Activity("running", "Main\n[x]", "thread", PLACE),
            Activity("awaiting", "Task-1", "task", RawStack((), ())),
        ]
    )
    where = f"{__name__}.marked(...)\n\t{CODE.co_filename}:{CODE.co_firstlineno}\n"
    if "marked" in found and f"{__name__}.marked" not in found:
        where = found.split("\n", 2)[1] + f"\n\t{CODE.co_filename}:{CODE.co_firstlineno}\n"
    assert found == (
        f"goroutine 1 [running, thread Main__x_]:\n{where}\ngoroutine 2 [awaiting, task Task-1]:\n"
    )


def test_a_timeline_has_the_idle_times():
    profiler = CpuProfiler(keeps_order=True)
    profiler.started, profiler.ended = 1000, 2000
    profiler.events = [
        Event(300, 100, "", PLACE),
        Event(450, 200, "", PLACE),  # more than has gone by since the one before
        Event(900, 50, "other", RawStack((), ())),
    ]
    found = json.loads(encode_timelines([("", timeline_of(profiler))], "process 7"))
    assert found["name"] == "process 7"
    assert [(it["file"], it["line"]) for it in found["shared"]["frames"]] == [
        (CODE.co_filename, CODE.co_firstlineno)
    ]
    main, other = found["profiles"]
    assert main["samples"] == [[], [0], [0], []]
    assert main["weights"] == [200, 100, 150, 550]
    assert (other["name"], other["weights"]) == ("other", [850, 50, 100])
    assert {it["endValue"] for it in found["profiles"]} == {1000}
    assert all(it["type"] == "sampled" for it in found["profiles"])


def test_a_timeline_of_an_idle_server_is_a_gap():
    profiler = CpuProfiler(keeps_order=True)
    profiler.started, profiler.ended = 0, 5
    (only,) = json.loads(encode_timelines([("", timeline_of(profiler))], ""))["profiles"]
    assert (only["name"], only["samples"], only["weights"]) == ("main thread", [[]], [5])


def test_timelines_of_several_processes_share_their_frames():
    first = Timeline([Moment((INNER, OUTER), "", 10, 10), Moment((OUTER,), "t", 20, 5)], 20)
    second = Timeline([Moment((OUTER,), "", 20, 20)], 20)
    found = json.loads(encode_timelines([("a: ", first), ("b: ", second)], "both"))
    assert [it["name"] for it in found["shared"]["frames"]] == ["pkg.Outer.run", "pkg.inner"]
    assert [(it["name"], it["samples"]) for it in found["profiles"]] == [
        ("a: main thread", [[0, 1], []]),
        ("a: t", [[], [0]]),
        ("b: main thread", [[0]]),
    ]


def test_profiles_of_several_processes_differ_by_a_label():
    one = Profile("x", TYPES, [Sample((INNER,), (1, 10), (("thread", "t"),))], NS, comments=["c"])
    two = Profile("x", TYPES, [Sample((INNER,), (2, 20))], NS, comments=["c", "d"])
    both = combine([(7, one), (8, two)])
    assert both.samples == [
        Sample((INNER,), (1, 10), (("thread", "t"), ("process", "7"))),
        Sample((INNER,), (2, 20), (("process", "8"),)),
    ]
    assert both.comments == ["c", "d"]
    assert (one.comments, len(one.samples)) == (["c"], 1)  # unchanged


def test_functions_are_found_in_modules():
    """tracemalloc knows only lines."""
    import contextlib as module

    from corepy_pprof.heap import lines_of

    file = module.__file__
    table = lines_of(module, file)
    wrapped = module.contextmanager.__code__.co_consts
    (helper,) = [it for it in wrapped if hasattr(it, "co_name")]
    body = helper.co_firstlineno + 2
    assert table[body].co_qualname == "contextmanager.<locals>.helper"
    exit_line = module.ExitStack.__exit__.__code__.co_firstlineno + 1
    assert table[exit_line].co_qualname == "ExitStack.__exit__"
    assert all(code.co_filename == file for code in table.values())
