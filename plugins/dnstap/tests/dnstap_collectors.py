"""Collectors: Debian's `fstrm_capture`, and one in Python that does what the test decides."""

import contextlib
import os
import queue
import signal
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from corepy.testing import command
from corepy_dnstap.handler import Dnstap

CONTENT = b"protobuf:dnstap.Dnstap"
ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
TIMEOUT = 60.0


def control(kind, *content_types):
    body = struct.pack("!I", kind)
    for each in content_types:
        body += struct.pack("!II", 1, len(each)) + each
    return struct.pack("!II", 0, len(body)) + body


def read_exactly(stream, size):
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def read_frame(stream):
    """Return (type, None) of a control frame, or (None, payload) of a data frame."""
    (length,) = struct.unpack("!I", read_exactly(stream, 4))
    if length:
        return None, read_exactly(stream, length)
    (length,) = struct.unpack("!I", read_exactly(stream, 4))
    return struct.unpack_from("!I", read_exactly(stream, length))[0], None


def read_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 128:
            return number, at


def read_fields(data):
    """Return the fields of a protobuf message by number: ints and bytes."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            fields[number], at = read_varint(data, at)
        elif kind == 5:
            fields[number], at = int.from_bytes(data[at : at + 4], "little"), at + 4
        else:
            assert kind == 2
            length, at = read_varint(data, at)
            fields[number], at = data[at : at + length], at + length
    assert at == len(data)
    return fields


class Collector:
    """Collects the payloads of all connections in `payloads`; each connection has a thread."""

    def __init__(self, talk=None):
        self._talk = talk or self.collect
        self.payloads: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.connections: queue.SimpleQueue[None] = queue.SimpleQueue()
        """An item for each completed handshake."""
        self.finished = threading.Semaphore(0)
        """Released when a sender has said that nothing follows."""
        self.is_reading = threading.Event()
        self.is_reading.set()
        self._listeners = []

    def listen(self, sock, context=None):
        self._listeners.append(sock)
        threading.Thread(target=self._accept, args=(sock, context), daemon=True).start()

    def _accept(self, sock, context):
        while True:
            try:
                stream, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(stream, context), daemon=True).start()

    def run(self, stream, context=None):
        stream.settimeout(TIMEOUT)
        with contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as stack:
            stack.enter_context(stream)
            if context is not None:
                stream = stack.enter_context(context.wrap_socket(stream, server_side=True))
            self._talk(stream)

    def attach(self, connection):
        """Serve a connection, or one to the Unix socket at a path, from its handshake on."""
        if isinstance(connection, str):
            path, connection = connection, socket.socket(socket.AF_UNIX)
            connection.connect(path)
        threading.Thread(target=self.run, args=(connection,), daemon=True).start()
        self.wait()

    def collect(self, stream):
        assert read_frame(stream)[0] == READY
        stream.sendall(control(ACCEPT, b"text:other", CONTENT))
        assert read_frame(stream)[0] == START
        self.connections.put(None)
        while self.is_reading.wait(TIMEOUT):
            kind, payload = read_frame(stream)
            if kind == STOP:
                stream.sendall(control(FINISH))
                self.finished.release()
                return
            assert kind is None
            self.payloads.put(payload)

    def take(self, count):
        """Return the next messages, each as (fields of the payload, fields of the message)."""
        outer = [read_fields(self.payloads.get(timeout=TIMEOUT)) for _ in range(count)]
        return [(fields, read_fields(fields[14])) for fields in outer]

    def types(self, count):
        return [message[1] for _, message in self.take(count)]

    def wait(self):
        """Wait for a handshake."""
        self.connections.get(timeout=TIMEOUT)

    def close(self):
        self.is_reading.set()
        for sock in self._listeners:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def output_of(server):
    """Return the output of the first handler."""
    return server.plugins(Dnstap)[0].output


def wait_until(server, holds):
    """Wait until `holds()` is true in the event loop of the server."""
    command.wait_until(lambda: server.call(holds), TIMEOUT)


@pytest.fixture
def make_collector():
    """Return a function that makes a collector, which is closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(talk=None):
            collector = Collector(talk)
            stack.callback(collector.close)
            return collector

        yield make


@pytest.fixture
def tcp_collector(make_collector):
    """Return a collector and its address, host:port."""
    sock = socket.create_server(("127.0.0.1", 0))
    collector = make_collector()
    collector.listen(sock)
    return collector, f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def unix_path():
    """Return a path that is short enough for a socket."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="dnstap") as folder:
        yield f"{folder}/sock"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Return the files of a certificate for 127.0.0.1, its own authority, and of its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9999"
    extension = "subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-subj", "/CN=x", "-addext", extension, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
def tls_collector(make_collector, certificate):
    """Return a collector over TLS and its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    sock = socket.create_server(("127.0.0.1", 0))
    collector = make_collector()
    collector.listen(sock, context)
    return collector, f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def capture(tmp_path):
    """Return a context manager: `fstrm_capture` at an address; it writes the file that it yields.

    The file is complete after the block. The arguments are `-u PATH`, or `-a HOST -p PORT`.
    """

    @contextlib.contextmanager
    def run(*where):
        written = tmp_path / "captured.fstrm"
        process = subprocess.Popen(
            ["fstrm_capture", "-dd", "-t", CONTENT.decode(), *where, "-w", os.fspath(written)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for line in process.stderr:
                if "opening" in line and "file" not in line:
                    break
            while not _is_listening(where):
                assert process.poll() is None
            yield written
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT)

    return run


def _is_listening(where):
    if where[0] == "-u":
        return os.path.exists(where[1])
    with socket.socket() as probe:
        return probe.connect_ex((where[1], int(where[3]))) == 0
