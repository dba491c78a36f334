"""The plugin author's pages say what the code does: hooks, the controller, every piece of code."""

import asyncio
import dataclasses
import importlib
import inspect
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pluggy import PluginManager

from corepy import corefile
from corepy.dns import Request
from corepy.plugin import (
    BlockConfig,
    Controller,
    CorefileError,
    Handler,
    HookSpecs,
    LifecycleContext,
    Timeouts,
    TSIGKeys,
    metrics,
)
from corepy.testing import (
    Recorder,
    Upstream,
    controller_for,
    inline,
    install,
    link,
    make_request,
    run_chain,
    run_command,
    serve,
    with_handlers,
)
from corepy.testing.installed import installed

ROOT = Path(__file__).parent.parent
HOOKS = (ROOT / "docs" / "hooks.md").read_text()
GUIDE = (ROOT / "docs" / "writing-plugins.md").read_text()
SPECS = {name: it for name, it in vars(HookSpecs).items() if not name.startswith("_")}
DOCUMENTED = dict(re.findall(r"^### (\w+)(\(.*\))$", HOOKS, re.MULTILINE))
CODE = {
    match[1]: match[0]
    for block in re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    if (match := re.match(r"# (\S+\.py)\n.*", block, re.DOTALL))
}


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_is_documented_with_its_signature(name):
    parameters = [it for it in inspect.signature(SPECS[name]).parameters if it != "self"]
    assert DOCUMENTED.get(name) == f"({', '.join(parameters)})"


def test_no_other_hook_is_documented():
    assert set(DOCUMENTED) == set(SPECS)


def rows(text, heading):
    """The first column of the table below a heading, as names; calls without their arguments."""
    table = text.partition(heading)[2].partition("\n\n|")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return {re.match(r"\w+", name)[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_what_a_hook_is_told_is_documented():
    fields = {field.name for field in dataclasses.fields(LifecycleContext)}
    assert rows(HOOKS, "## What a lifecycle hook is told") == fields


def test_the_controller_is_documented():
    own = {name for name in vars(Controller) if not name.startswith("_")}
    own |= {
        "block_handlers",
        "config",
        "checking",
        "directive",
        "token",
        "val",
        "error",
        "statement",
    }
    assert rows(GUIDE, "What a controller offers") == own


def test_arguments_of_the_controller_are_its_own():
    table = GUIDE.partition("What a controller offers")[2].partition("\n\nBelow")[0]
    for name, arguments in re.findall(r"`(\w+)\(([^)]*)\)`", table):
        parameters = list(inspect.signature(getattr(Controller, name)).parameters)[1:]
        assert [it.strip() for it in arguments.split(",") if it] == parameters, name


def test_attributes_of_a_request_exist():
    request = make_request("example.org.", edns=1232)
    names = rows(GUIDE, "### The request")
    assert {"name", "type", "remote", "metadata"} <= names
    for name in names:
        getattr(request, name)
    public = {name for name in dir(Request) if not name.startswith("_")}
    assert names <= public


TOOLS = GUIDE.partition("### Tools")[2].partition("\n\nNames")[0]


@pytest.mark.parametrize("line", re.findall(r"^\| `corepy.*$", TOOLS, re.MULTILINE))
def test_tools_exist(line):
    module, *names = re.findall(r"`([\w.]+)`", line)
    assert names
    for name in names:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """The modules of the guide, imported from a folder."""
    folder = tmp_path_factory.mktemp("guide")
    for name, text in CODE.items():
        (folder / name).write_text(text)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(folder))
        metrics._registry.pop("coredns_hello_seen_total", None)


def test_all_code_has_a_name():
    assert len(CODE) == GUIDE.count("```python")


def text_of(reply):
    return [f"{rr.rdata}" for rr in reply.record.rr]


def test_answer(code):
    assert text_of(run_chain(make_request("a.test."), code("answer").Answer())) == ["192.0.2.1"]
    assert run_chain(make_request("a.test.", "MX"), code("answer").Answer(), Recorder()).rcode == 0


def test_refuse(code):
    refused = run_chain(make_request("a.invalid."), code("refuse").Refuse())
    assert (refused.rcode, b"not a name" in refused.options) == (5, True)
    assert run_chain(make_request("a.test."), code("refuse").Refuse(), Recorder()).rcode == 0


def test_shorten(code):
    reply = run_chain(make_request("a.test."), code("shorten").Shorten(), code("answer").Answer())
    assert [rr.ttl for rr in reply.record.rr] == [30]


def test_alias(code):
    class Target(code("answer").Answer):
        name = "target"

    text = "alias.test {\nhello\n}\ntarget.example {\ntarget\n}"
    with serve(text, plugins=with_handlers(hello=code("alias").Alias, target=Target)) as server:
        reply = server.ask("www.alias.test.")
        assert [str(rr.rdata) for rr in reply.rr] == ["target.example.", "192.0.2.1"]


def test_limited(code):
    """Of the listener's gate, and of one in front of the packet cache."""
    text = '. {\nhello\ncache\ntemplate IN A . {\nanswer "{{ .Name }} 60 IN A 192.0.2.1"\n}\n}'
    for more in ("", "\nother.test {\nwhoami\n}"):
        with serve(text + more, plugins=with_handlers(hello=code("limited").Limited)) as server:
            for _ in range(2):
                assert server.ask("a.test.").header.rcode == 0
            (handler,) = server.plugins(code("limited").Limited)
            (client,) = handler.gate.sent
            server.call(handler.gate.sent.update, {client: 1000})
            assert server.ask("a.test.").header.rcode == 5
            assert server.ask("a.test.", tcp=True).header.rcode == 0


def test_second(code):
    with Upstream({"a.test. A": ["a.test. 60 IN A 192.0.2.1"]}) as upstream:
        plugins = {**installed(), "hello": inline("hello", code("second").setup)}
        text = f". {{\nhello {upstream.to}\ntemplate ANY ANY . {{\nrcode NXDOMAIN\n}}\n}}"
        with serve(text, plugins=plugins) as server:
            assert [str(it.rdata) for it in server.ask("a.test.").rr] == ["192.0.2.1"]


def test_wait(code):
    assert text_of(run_chain(make_request("localhost."), code("wait").Resolve())) == ["127.0.0.1"]


def test_setup(code, tmp_path):
    (tmp_path / "words").write_text("words")
    controller = controller_for(
        f"hello example.org {{\n greet hi\n ttl 1m\n file {tmp_path}/words\n}}"
    )
    code("setup").setup(controller)
    (handler,) = controller.handlers
    assert (handler.greeting, handler.ttl, handler.text) == ("hi", 60, "words")
    assert handler.zones == ["example.org."]
    assert controller.files == [tmp_path / "words"]


def test_the_mistake_that_is_shown(code):
    shown = re.search(r"^```txt\n(Corefile:3:13.*?)\n```$", GUIDE, re.MULTILINE | re.DOTALL)[1]
    block = corefile.parse(". {\n    hello {\n        ttl -5s\n    }\n}\n", "Corefile").blocks[0]
    config = BlockConfig(corefile.server_keys(block, 53))
    with pytest.raises(CorefileError) as caught:
        code("setup").setup(Controller("hello", block, config))
    assert str(caught.value) == shown


def test_slowest(code):
    slowest = code("slowest").Slowest()
    top = link([slowest, Recorder()], guarded=True)
    for qtype in ("A", "TXT"):
        assert asyncio.run(top.serve_dns(make_request("a.test.", qtype))).rcode == 0
        assert list(slowest.seconds) == (["recorder"] if qtype == "TXT" else [])


def test_patience(code):
    controller = controller_for("hello 1s")
    code("patience").setup(controller)
    assert controller.config.get(Timeouts) == Timeouts(read=1.0)
    controller = controller_for("hello 1s")
    controller.config.set(Timeouts(idle=60.0), "timeouts")
    with pytest.raises(CorefileError, match="hello conflicts with timeouts: both set Timeouts"):
        code("patience").setup(controller)


def test_signed(code):
    controller = controller_for("hello Key.Test. c2VjcmV0")
    code("signed").setup(controller)
    assert controller.config.get(TSIGKeys).secrets == {b"\3key\4test\0": b"secret"}
    (handler,) = controller.handlers
    assert run_chain(make_request("a.test."), handler).rcode == 5
    for mistake in ("..key c2VjcmV0", "key c2VjcmV"):
        with pytest.raises(CorefileError, match="not a key"):
            code("signed").setup(controller_for(f"hello {mistake}"))


def test_own(code):
    controller = controller_for("hello a.test {\n fallthrough b.a.test\n}")
    code("own").setup(controller)
    (handler,) = controller.handlers
    names = ("x.a.test.", "x.b.a.test.", "b.test.")
    assert [run_chain(make_request(it), handler, Recorder()).rcode for it in names] == [3, 0, 0]
    code("own").setup(controller := controller_for("hello a.test"))
    (handler,) = controller.handlers
    assert run_chain(make_request("x.b.a.test."), handler, Recorder()).rcode == 3


def test_zone(code):
    plugins = with_handlers(hello=code("zone").Zone)
    with serve(".:0 {\nbind 127.0.0.1\nhello\nwhoami\n}\n", plugins=plugins) as server:
        host, port = server.address
        command = ["dig", f"@{host}", "-p", f"{port}", "+time=60", "example.", "AXFR"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    records = [line for line in lines if line and not line.startswith(";")]
    soa = "example. 60 IN SOA ns.example. ns.example. 0 0 0 0 0"
    hosts = [f'host{number}.example. 60 IN TXT "hello"' for number in range(20_000)]
    assert records == [soa, *hosts, soa]


def test_suffixes(code):
    class Search(code("answer").Answer):
        name = "search"

        def search_path(self, request):
            return [b"\1a\4test\0"]

    def setup(controller):
        controller.arguments()
        code("suffixes").setup(controller)

    plugins = with_handlers(search=Search) | {"hello": inline("hello", setup)}
    with serve(".:0 {\nbind 127.0.0.1\nhello\nsearch\n}\n", plugins=plugins) as server:
        assert [str(rr.rdata) for rr in server.ask("x.test.").rr] == ["192.0.2.1"]
        (hello,) = server.plugins(code("suffixes").Suffixes)
        assert hello.sources == server.plugins(Search)


def test_count(code):
    module = code("count")
    run_chain(make_request("a.test."), module.Count(), Recorder())
    assert module.SEEN.labels("dns://:53").value == 1


def test_command(code, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    setup = "api_version = 1\ndef setup(controller):\n    controller.add_handler(Names())\n"
    env = install(tmp_path, "hello", CODE["command.py"] + setup)
    with run_command(".:0 {\n bind 127.0.0.1\n hello\n whoami\n}\n", env=env) as server:
        for name in ("a.test.", "A.test.", "b.test."):
            server.ask(name)
        assert code("command").main(["forget"]) == 0
    assert capsys.readouterr().out == "2 names forgotten\n"
    with pytest.raises(SystemExit) as caught:
        code("command").main(["-h"])
    assert caught.value.code == 0


def test_together(tmp_path):
    """A reload, whose second generation uses the listener of the first."""
    setup = "api_version = 1\ndef setup(controller):\n    controller.register(Together())\n"
    env = install(tmp_path, "hello", CODE["together.py"] + setup)
    text = ".:0 {\n bind 127.0.0.1\n multisocket 2\n hello\n whoami\n}\n"
    with run_command(text, env=env) as server:
        for times in (1, 2):
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for("Reloading complete", times=times)
        assert "reload failed" not in server.output
        assert server.stop() == 0


@pytest.mark.parametrize("status", [202, 500])
def test_report(code, status, caplog):
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            """Nothing: standard error is for failures."""

    plugins = with_handlers() | {"hello": inline("hello", code("report").setup)}
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{collector.server_port}/"
        with serve(f". {{\nhello {url}\nwhoami\n}}", plugins=plugins):
            thread.join()
    assert received == [b'{"started": true}']
    assert caplog.messages.count(f"{url}: status 500") == (status == 500)


def test_report_refuses_what_is_no_url(code):
    with pytest.raises(CorefileError, match="such as http://localhost:8080/"):
        code("report").setup(controller_for("hello collector"))


def test_refresh(code):
    handler = code("refresh").Refresh()
    with serve(". {\nhello\nwhoami\n}", plugins=with_handlers(hello=lambda: handler)) as server:
        assert server.ask("a.test.").header.rcode == 0
        server.call(lambda: None)
        assert handler.ready()
    assert handler.task.cancelled()


def test_observe(code):
    handler = code("observe").Observe()
    assert isinstance(handler, Handler)
    plugins = with_handlers(hello=lambda: handler, deep=code("answer").Answer)
    with serve(". {\nhello\ncache\ndeep\n}", plugins=plugins, order="deep after cache") as server:
        for _ in range(9):
            server.ask("a.test.")
        server.call(server.server.forget)
    assert handler.seen == 9


def test_the_package(code):
    namespace: dict[str, Any] = {}
    exec(CODE["__init__.py"], namespace)
    assert (namespace["api_version"], namespace["before"]) == (1, ("forward",))


def test_the_tests_of_the_guide(tmp_path):
    for name in ("answer.py", "test_hello.py"):
        (tmp_path / name).write_text(CODE[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_hooks_page_code_runs():
    (block,) = re.findall(r"^```python\n(.*?)^```$", HOOKS, re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    assert asyncio.run(_addresses(namespace["Started"]())) == ("dns://:1053",)


async def _reloads_nothing(reason):
    return False


async def _addresses(started):
    context = LifecycleContext(
        PluginManager("test"), _reloads_nothing, lambda: None, addresses=("dns://:1053",)
    )
    started.serving(context)
    return started.addresses
