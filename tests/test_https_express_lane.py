"""The express lane of HTTP/2 against h2 alone: a client cannot tell them apart.

Two sessions get the same frames. One has the lane, and its bytes arrive in pieces. All that the
client sees of its requests must be equal.
"""

from base64 import urlsafe_b64encode
from collections import defaultdict
from time import monotonic
from types import SimpleNamespace
from typing import Any

import hpack
import pytest
from h2.errors import ErrorCodes
from hyperframe import frame as hf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corepy.plugin import Timeouts
from corepy.server.listen.http.doh_exchange import DoHApplication
from corepy.server.listen.http.http2 import HTTP2Session
from corepy.server.listen.http.http_listener import PREFACE
from corepy.testing import query

SIZES = (0, 0, 700, 20_000)
"""Bytes that a reply has besides its query, by the number of the query; the first is not cached."""

QUERIES = [query(f"host{number}.example.org.", id=0) for number in range(len(SIZES))]
REPLIES = [
    it[:2] + b"\x81\x80" + it[4:] + bytes(size) for it, size in zip(QUERIES, SIZES, strict=True)
]


class Entry:
    """A cached reply."""

    hit_listeners = ()

    def __init__(self, reply):
        self.body, self.size, self.shaped = reply[2:], len(reply) - 2, None


class Packets:
    """A packet cache."""

    def __init__(self):
        pairs = list(zip(QUERIES, REPLIES, strict=True))[1:]
        self.entries = {message[2:]: Entry(reply) for message, reply in pairs}

    def find(self, key, _now):
        return self.entries.get(key)


class Carrier:
    """A connection without a socket; queries get their replies at once."""

    label, client_address, is_full = "https://127.0.0.1:443", ("192.0.2.1", 1), False
    timeouts = Timeouts()
    turns = SimpleNamespace(step=lambda: 1 << 20, count=lambda _number: None)

    def __init__(self):
        traffic = SimpleNamespace(repeated=SimpleNamespace(left=1 << 30))
        self.pipeline = SimpleNamespace(packets=Packets(), traffic=traffic, unrouted=None)
        self.sent, self.is_closed = b"", False

    def send(self, data):
        self.sent += data

    def send_all(self, pieces, size):
        assert sum(map(len, pieces)) == size
        self.sent += b"".join(pieces)

    def ask(self, message, _facts, deliver):
        deliver(REPLIES[QUERIES.index(message)])

    def note_request(self, now):
        pass

    def flush_soon(self):
        pass

    def end(self):
        self.is_closed = True

    close_when_done = end


class Counter(defaultdict[int, Any]):
    def __init__(self):
        super().__init__(lambda: SimpleNamespace(inc=lambda: None))


def session(*, has_lane):
    """A session after the client's preface and settings, its carrier, and the lane's responses."""
    carrier: Any = Carrier()
    counter: Any = Counter()
    answered: list[int] = []
    count = (lambda: answered.append(1)) if has_lane else None
    made = HTTP2Session(carrier, DoHApplication(carrier, counter), 250, count)
    made.receive(PREFACE + hf.SettingsFrame(0).serialize())
    return made, carrier, answered


class Client:
    """Makes the frames of a client."""

    def __init__(self):
        self._encoder = hpack.Encoder()
        self._next = 1

    def block(self, number, *, has_content, extra, is_indexed):
        names = {":scheme": "https", ":authority": "dns.example", ":path": "/dns-query"}
        fields = [(":method", "POST" if has_content else "GET"), *names.items()]
        if not has_content:
            fields[-1] = ":path", f"/dns-query?dns={encoded(QUERIES[number])}"
        if extra is not None:
            fields.append(extra)
        if not is_indexed:
            fields = [hpack.NeverIndexedHeaderTuple(*it) for it in fields]
        return self._encoder.encode(fields)

    def resize(self, size):
        self._encoder.header_table_size = size

    def request(self, number, content, extra, shape):
        """The frames of a request; `shape` is one of `SHAPES`."""
        stream_id, self._next = self._next, self._next + 2
        is_indexed = shape != "never indexed"
        block = self.block(number, has_content=content, extra=extra, is_indexed=is_indexed)
        head = hf.HeadersFrame(stream_id, block, flags=["END_HEADERS"])
        if shape == "prioritized":
            head.flags.add("PRIORITY")
            head.depends_on, head.stream_weight, head.exclusive = 0, 15, True
        elif shape == "padded":
            head.flags.add("PADDED")
            head.pad_length = 7
        frames: list[Any] = [head]
        if shape == "continued":
            head.data, head.flags = block[:3], hf.Flags(head.defined_flags)
            frames.append(hf.ContinuationFrame(stream_id, block[3:], flags=["END_HEADERS"]))
        if not content:
            head.flags.add("END_STREAM")
            return frames
        pieces = [QUERIES[number]]
        if shape == "in pieces":
            pieces = [pieces[0][:5], pieces[0][5:]]
        frames += [hf.DataFrame(stream_id, piece) for piece in pieces]
        if shape == "padded content":
            frames[-1].flags.add("PADDED")
            frames[-1].pad_length = 9
        if shape == "trailers":
            trailers = self._encoder.encode([("x-checksum", str(number))])
            frames.append(hf.HeadersFrame(stream_id, trailers, flags=["END_HEADERS"]))
        frames[-1].flags.add("END_STREAM")
        if shape == "reset":
            frames.append(hf.RstStreamFrame(stream_id, error_code=ErrorCodes.CANCEL))
        return frames


def encoded(message):
    return urlsafe_b64encode(message).rstrip(b"=").decode()


SHAPES = (
    "plain",
    "never indexed",
    "prioritized",
    "padded",
    "continued",
    "in pieces",
    "padded content",
    "trailers",
    "reset",
)
EXTRAS = (
    None,
    ("x-a", "b"),
    ("x-a", "c"),
    hpack.NeverIndexedHeaderTuple("authorization", "secret"),
)
REQUESTS = st.tuples(
    st.just("request"),
    st.integers(0, len(SIZES) - 1),
    st.booleans(),
    st.sampled_from(EXTRAS),
    st.sampled_from(("plain", *SHAPES)),
)
SETTINGS = st.sampled_from(
    [
        {hf.SettingsFrame.INITIAL_WINDOW_SIZE: 600},
        {hf.SettingsFrame.INITIAL_WINDOW_SIZE: 65_535},
        {hf.SettingsFrame.HEADER_TABLE_SIZE: 0},
        {hf.SettingsFrame.HEADER_TABLE_SIZE: 4096},
        {hf.SettingsFrame.MAX_FRAME_SIZE: 20_000},
    ]
)
ACTIONS = st.one_of(
    REQUESTS,
    REQUESTS,
    st.tuples(st.just("again"), st.integers(1, 3)),
    st.tuples(st.just("resize"), st.sampled_from((0, 60, 200, 4096))),
    st.tuples(st.just("settings"), SETTINGS),
    st.tuples(st.just("window"), st.sampled_from((500, 30_000))),
    st.tuples(st.just("late"), st.sampled_from(("window", "reset", "priority"))),
    st.tuples(st.just("ping")),
    st.tuples(st.just("goodbye")),
)


class Conversation:
    """All frames of a client, from a list of actions."""

    def __init__(self, actions):
        self._client = Client()
        self._last = ("request", 1, True, None, "plain")
        self.frames = []
        self.windows = []
        for name, *values in actions:
            getattr(self, f"_{name}")(*values)

    def _request(self, *values):
        self._last = values
        self.frames += self._client.request(*values)

    def _again(self, times):
        if self._last[0] != "request":
            for _ in range(times):
                self._request(*self._last)

    def _resize(self, size):
        self._client.resize(size)

    def _settings(self, values):
        self.frames.append(hf.SettingsFrame(0, values))

    def _window(self, size):
        self.frames.append(hf.WindowUpdateFrame(0, window_increment=size))

    def _late(self, kind):
        """A frame that may arrive for a stream that has ended."""
        stream_id = max((it.stream_id for it in self.frames), default=0)
        if stream_id:
            made = {
                "window": hf.WindowUpdateFrame(stream_id, window_increment=9),
                "reset": hf.RstStreamFrame(stream_id, error_code=ErrorCodes.CANCEL),
                "priority": hf.PriorityFrame(stream_id, depends_on=0, stream_weight=3),
            }
            self.frames.append(made[kind])

    def _ping(self):
        self.frames.append(hf.PingFrame(0, b"12345678"))

    def _goodbye(self):
        self.frames.append(hf.GoAwayFrame(0, last_stream_id=0))


def seen(data):
    """What a client sees: the fields, content, and end of each stream, and the other frames."""
    decoder, others = hpack.Decoder(), list[Any]()
    streams: defaultdict[int, list[Any]] = defaultdict(list)
    while data:
        found, size = hf.Frame.parse_frame_header(memoryview(data[:9]))
        found.parse_body(memoryview(data[9 : 9 + size]))
        data = data[9 + size :]
        mine = streams[found.stream_id]
        if isinstance(found, hf.HeadersFrame):
            mine += [it for it in sorted(decoder.decode(found.data)) if it[0] != "date"]
        elif isinstance(found, hf.DataFrame):
            if mine and type(mine[-1]) is bytes:
                mine[-1] += found.data
            else:
                mine.append(bytes(found.data))
        elif isinstance(found, hf.RstStreamFrame):
            mine.append(("reset", found.error_code))
        elif not isinstance(found, hf.WindowUpdateFrame):
            others.append((type(found).__name__, getattr(found, "error_code", None), *found.flags))
        if "END_STREAM" in found.flags:
            mine.append("end")
    return {it: what for it, what in streams.items() if it}, others


def pieces_of(data, cuts):
    at = 0
    for cut in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        yield data[at:cut]
        at = cut


def check_equal(actions, cuts=()):
    """Compare the sessions; return the number of responses of the lane."""
    data = b"".join(it.serialize() for it in Conversation(actions).frames)
    tested, its_carrier, answered = session(has_lane=True)
    reference, carrier, _ = session(has_lane=False)
    for piece in pieces_of(data, cuts):
        tested.receive(piece)
    reference.receive(data)
    assert seen(its_carrier.sent) == seen(carrier.sent)
    assert (tested.has_ended, its_carrier.is_closed) == (reference.has_ended, carrier.is_closed)
    for name in ("highest_inbound_stream_id", "outbound_flow_control_window"):
        assert getattr(tested._h2, name) == getattr(reference._h2, name)
    return len(answered)


POST = ("request", 1, True, None, "plain")
GET = ("request", 1, False, None, "plain")
GET_MORE = ("request", 1, False, ("x-a", "b"), "plain")
LITERAL = ("request", 1, False, None, "never indexed")


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS, max_size=14), st.lists(st.integers(0, 1500), max_size=6))
@example([("resize", 0), GET, GET, ("resize", 4096), LITERAL, GET, GET], [])
@example([POST, POST, ("resize", 60), POST, ("again", 3), ("resize", 4096), ("again", 3)], [])
def test_a_client_cannot_tell_the_lane_from_h2(actions, cuts):
    check_equal(actions, cuts)


@pytest.mark.parametrize("request_", [POST, GET], ids=["POST", "GET"])
def test_repeated_requests_take_the_lane(request_):
    assert check_equal([request_, request_, ("again", 3)]) >= 3


def test_a_block_whose_rest_has_not_arrived_is_not_another_one():
    """The first part of a block is also the whole block of an earlier request."""
    actions = [GET, GET_MORE, GET, GET, GET_MORE, GET]
    *earlier, short, long, _ = [it.serialize() for it in Conversation(actions).frames]
    assert long[9:].startswith(short[9:])
    assert check_equal(actions, [len(b"".join(earlier)) + 2 * len(short)]) == 2


def test_a_request_whose_content_is_late_is_reset_alone():
    tested, carrier, _ = session(has_lane=True)
    conversation = Conversation([POST, POST, POST])
    *frames, content = conversation.frames
    tested.receive(b"".join(it.serialize() for it in frames))
    now, patience = monotonic(), Carrier.timeouts.read
    tested.expire(now)
    tested.expire(now + patience / 2)
    assert "end" in seen(carrier.sent)[0][3]
    assert content.stream_id not in seen(carrier.sent)[0]
    tested.expire(now + patience + 1)
    assert seen(carrier.sent)[0][content.stream_id] == [("reset", ErrorCodes.CANCEL)]
    assert not tested.has_ended
