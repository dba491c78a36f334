"""The data of *console* from a running server."""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import stat
from types import SimpleNamespace

import pytest

from corepy.plugin import CommandError
from corepy.testing import free_port, run_command, serve
from corepy.testing.command import wait_until
from corepy_console import data
from corepy_console.endpoint import HEADERS, Console
from corepy_console.static_files import NAMES

TOKEN = "s3cr3t-t0ken-of-24-chars"
TEXT = """\
example.org {{
    bind 127.0.0.1
    console {address} {{
        {options}
    }}
    cache
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
    }}
}}
"""
MARK = {"X-Corepy-Console": "1"}


def text(address="127.0.0.1:0", options=""):
    return TEXT.format(address=address, options=options)


def port_of(server):
    (console,) = server.plugins(Console)
    return console._claim.address.port


class UnixConnection(http.client.HTTPConnection):
    """A connection to a socket of the Unix domain."""

    def __init__(self, path):
        super().__init__("localhost", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(300)
        self.sock.connect(str(self.path))


def get(where, path, method="GET", **headers):
    """Return the answer at a port or the path of a socket."""
    kind = http.client.HTTPConnection
    connection = kind("127.0.0.1", where, 300) if isinstance(where, int) else UnixConnection(where)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        return SimpleNamespace(status=response.status, headers=response.headers, body=body)


def fetch(where, path, **headers):
    """Return a document."""
    found = get(where, path, **headers)
    assert (found.status, found.headers["Content-Type"]) == (200, "application/json"), found.body
    return json.loads(found.body)


@pytest.fixture(scope="module")
def server():
    with serve(text()) as server:
        yield server


@pytest.fixture(scope="module")
def port(server):
    return port_of(server)


@pytest.mark.parametrize("path", NAMES)
def test_the_page_is_sent_with_headers_that_protect_it(port, path):
    found = get(port, path)
    assert found.status == 200
    assert found.body
    assert found.headers.get_all("Content-Type") == [NAMES[path][1]]
    assert {(name, found.headers[name]) for name, _ in HEADERS} == {*HEADERS}
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert get(port, path, "HEAD").body == b""


def test_the_page_refers_to_its_own_files_only(port):
    page = get(port, "/").body.decode()
    assert "style=" not in page
    assert " on" not in page.replace(" one", "").replace(" only", "")  # no attribute with a script
    for word in ("http://", "https://", "//"):
        assert word not in page
    for path in NAMES:
        source = get(port, path).body.decode()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in source


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/", "GET", {"Host": "attacker.example"}, 403),
        ("/console.js", "GET", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/api/stats", "GET", {"Origin": "http://attacker.example"}, 403),
        ("/api/stats", "POST", {}, 405),
        ("/api/explain?name=a", "GET", {}, 403),
        ("/api/explain", "GET", MARK, 400),
        ("/api/explain?name=a..b", "GET", MARK, 400),
        ("/api/explain?name=a&type=QQ", "GET", MARK, 400),
        ("/api/explain?name=a&client=x", "GET", MARK, 400),
        ("/api/explain?name=%ff", "GET", MARK, 400),
        (f"/api/explain?name={'x' * 3000}", "GET", MARK, 400),
        ("/other", "GET", {}, 404),
    ],
)
def test_refusals_are_answers(port, path, method, headers, status):
    found = get(port, path, method, **headers)
    assert found.status == status
    if status != 404:
        assert found.headers["X-Frame-Options"] == "DENY"
        assert json.loads(found.body)["error"]
    if status == 405:
        assert found.headers["Allow"] == "GET, HEAD"


def test_the_data_are_those_of_the_commands(server, port):
    server.ask("www.example.org")
    found = fetch(port, "/api/stats")
    assert found["totals"]["rcodes"]["NOERROR"] >= 1
    assert found["top"]["names"][0]["name"] == "www.example.org."
    assert [it["plugin"] for it in found["plugins"]] == ["cache"]
    assert fetch(port, "/api/history")["interval"] == 10
    status = fetch(port, "/api/status")
    assert status["blocks"][0]["zones"] == ["example.org."]
    assert "configuration" not in status  # its warnings may have secrets
    corefile = fetch(port, "/api/corefile")
    assert corefile["files"] == [{"name": "Corefile", "text": text()}]
    assert (corefile["diagnostics"], corefile["error"]) == ([], None)


def test_an_answer_is_explained(port):
    question = "name=www.Example.org&type=a&client=10.0.0.7&protocol=tcp&do=1"
    found = fetch(port, f"/api/explain?{question}", **MARK)
    asked = found["question"]
    assert (asked["name"], asked["type"], asked["client"]) == ("www.Example.org.", "A", "10.0.0.7")
    assert (asked["protocol"], asked["do"]) == ("tcp", True)
    assert [it["plugin"] for it in found["steps"]] == ["cache", "template"]
    assert found["reply"]["rcode"] == "NOERROR"


def test_secrets_are_not_shown():
    corefile = text(options="# the password is hunter2-of-old").replace(
        "    cache\n", "    cache\n    errors {\n        stacktrace\n    }\n"
    )
    with serve(corefile) as server:
        found = get(port_of(server), "/api/corefile").body
    assert b"stacktrace" in found
    assert b"hunter2" not in found


def test_the_token_is_needed_for_data(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    with serve(text("0.0.0.0:0", f"token {path}")) as server:
        port = port_of(server)
        assert get(port, "/").status == 200
        for name in ("stats", "history", "status", "corefile", "explain?name=a"):
            refused = get(port, f"/api/{name}", Authorization="Bearer guess-of-24-characters-x")
            assert refused.status == 401
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        allowed = {"Authorization": f"Bearer {TOKEN}"}
        assert fetch(port, "/api/stats", **allowed)["server"]["pid"] == os.getpid()
        shown = get(port, "/api/corefile", **allowed).body.decode()
        assert TOKEN not in shown
        assert "token ***" in shown
        # A reload reads the token again.
        path.write_text("an0ther-t0ken-of-24-chars")
        server.reload(text("0.0.0.0:0", f"token {path}"))
        assert get(port_of(server), "/api/stats", **allowed).status == 401


def test_a_unix_socket_is_for_its_owner(tmp_path):
    path = tmp_path / "console.sock"
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(path))  # a process that was killed has left it
    leftover.close()
    with serve(text(f"unix:{path}")) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert fetch(path, "/api/stats")["server"]
        assert get(path, "/", Host="attacker.example").status == 403
        server.reload(text(f"unix:{path}"))
        assert fetch(path, "/api/stats")["server"]
        server.reload(text())
        assert not path.exists()
    assert [*tmp_path.iterdir()] == []


def test_a_file_at_the_path_of_the_socket_is_kept(tmp_path, caplog):
    path = tmp_path / "file"
    path.write_text("precious")
    with serve(text(f"unix:{path}")) as server:
        assert server.ask("www.example.org").rr
    assert path.read_text() == "precious"
    assert "a file that is not a socket has this path" in caplog.text


def test_an_address_that_is_taken_does_not_prevent_service(caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with serve(text(address)) as server:
            assert server.ask("www.example.org").rr
    assert "there will be no console until the next reload" in caplog.text


def test_localhost_must_be_this_machine(monkeypatch, caplog):
    """The name may be anything in the hosts file."""
    from corepy.http import listener
    from corepy.net.sockets import Address

    async def resolve(_):
        return Address("", 0)

    monkeypatch.setattr(listener, "resolve", resolve)
    with serve(text("localhost:0")) as server:
        (console,) = server.plugins(Console)
        assert console._claim is None
    assert "without a token" in caplog.text


def test_a_reload_keeps_the_address_and_the_counts():
    with serve(text()) as server:
        port = port_of(server)
        server.ask("www.example.org")
        server.reload(text().replace("example.org", "example.net"))
        assert port_of(server) == port
        found = fetch(port, "/api/stats")
        assert found["totals"]["queries"] >= 1
        assert fetch(port, "/api/status")["blocks"][0]["zones"] == ["example.net."]


def test_clients_share_a_document():
    asked = []

    async def run_command(name, argument):
        asked.append(name)
        return {"number": len(asked)}

    async def twice(fresh):
        made = data.Shared(lambda: run_command("stats", None), fresh)
        return [await made.get(), await made.get()]

    assert asyncio.run(twice(3600.0)) == [{"number": 1}] * 2
    assert asyncio.run(twice(0.0)) == [{"number": 2}, {"number": 3}]


def test_a_few_questions_are_explained_at_a_time():
    async def run():
        release = asyncio.Event()

        async def run_command(name, argument):
            await release.wait()
            return argument["name"]

        made = data.Data(run_command)
        running = [
            asyncio.ensure_future(made.explain(data.Question(str(number))))
            for number in range(data.MAX_EXPLANATIONS)
        ]
        await asyncio.sleep(0)
        with pytest.raises(CommandError, match="other questions"):
            await made.explain(data.Question("more"))
        release.set()
        assert await asyncio.gather(*running) == ["0", "1", "2", "3"]
        assert await made.explain(data.Question("more")) == "more"

    asyncio.run(run())


def test_all_processes_are_counted():
    """With *multisocket*, the leader serves the page for all."""
    port = free_port()
    with run_command(
        text(f"127.0.0.1:{port}").replace("    cache\n", "    multisocket 2\n")
    ) as command:
        found = fetch(port, "/api/stats")
        assert [it["leader"] for it in found["processes"]] == [True, False]
        for number in range(20):
            command.ask(f"n{number}.example.org")
        wait_until(lambda: fetch(port, "/api/stats")["totals"]["queries"] >= 20)
        assert (
            fetch(port, "/api/explain?name=n1.example.org", **MARK)["reply"]["rcode"] == "NOERROR"
        )
