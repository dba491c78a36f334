"""Files of plugins: loaded in a thread, swapped whole, kept when they go bad."""

import asyncio
import itertools
import logging
import sys
import threading
import types

import pluggy
import pytest

from corepy.plugin import FileData, Handler, LifecycleContext, StartupError, filedata, in_thread
from corepy.testing import inline, serve
from corepy.testing.command import wait_until


def context(forgotten=None):
    """Return a lifecycle context that notes in a list when the packet caches are to forget."""
    noted = [] if forgotten is None else forgotten
    manager = pluggy.PluginManager("corepy")

    async def reload(reason):
        return True

    return LifecycleContext(manager, reload, lambda: noted.append(True))


def numbers(content):
    """The parser of these tests: a number a line."""
    return [int(line) for line in content.split()]


def data(path, **options):
    return FileData(path, numbers, [], **{"interval": 0.01, "what": "list", **options})


async def until(condition):
    while not condition():  # noqa: ASYNC110  what changes is a plain value, without an event
        await asyncio.sleep(0.005)


def join_loading_threads():
    """Wait for the threads of earlier tests, which change the interval between switches."""
    for thread in threading.enumerate():
        if thread.name == "corepy-load":
            thread.join(60)


def test_the_loop_goes_on_while_a_file_is_parsed(tmp_path):
    (path := tmp_path / "list").write_text("1 2")
    go, seen = threading.Event(), []

    def slow(content):
        seen.append((threading.current_thread(), sys.getswitchinterval()))
        assert go.wait(60)
        return numbers(content)

    async def main():
        it = FileData[list[int]](path, slow, [])
        loading = asyncio.create_task(it.before_listen(context()))
        await until(lambda: seen)
        assert it.value == []  # and this runs, although the parser has not returned
        go.set()
        await loading
        return it.value

    join_loading_threads()
    before = sys.getswitchinterval()
    assert asyncio.run(main()) == [1, 2]
    assert seen[0][0] is not threading.main_thread()
    assert seen[0][1] < before
    assert sys.getswitchinterval() == before


def test_changes_are_noticed_and_the_packet_caches_forget(tmp_path):
    (path := tmp_path / "list").write_text("1")

    async def main():
        it, forgotten = data(path), list[bool]()
        life = context(forgotten)
        await it.before_listen(life)
        it.serving(life)
        first = it.value
        path.write_text("1 2 3")
        await until(lambda: it.value == [1, 2, 3])
        assert first == [1]  # swapped, not changed
        await until(lambda: forgotten == [True])
        it.shutdown(life)
        await asyncio.sleep(0)
        assert it._task.done()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.write_text("x"), "list {path}: invalid literal for int"),
        (lambda path: path.unlink(), "cannot read list {path}: No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot read list {path}: Is a directory"),
        (lambda path: path.write_text("1 " * 1000), "cannot read list {path}: larger than"),
        (lambda path: path.write_bytes(b"caf\xe9"), "list {path}: invalid literal for int"),
    ],
)
def test_a_file_that_goes_bad_changes_nothing(tmp_path, caplog, spoil, problem):
    (path := tmp_path / "list").write_text("1 2")

    async def main():
        it = data(path, most=1024)
        await it.before_listen(context())
        spoil(path)
        for _ in range(3):
            assert not await it.look()
        assert it.value == [1, 2]

    asyncio.run(main())
    errors = [it.getMessage() for it in caplog.records if it.levelno == logging.ERROR]
    assert len(errors) == 1  # said once
    assert problem.format(path=path) in errors[0]


def test_a_problem_that_quotes_the_whole_file_is_cut(tmp_path, caplog):
    (path := tmp_path / "list").write_text("1")

    def parse(content):
        if content != b"1":
            raise ValueError(f"not a number: {content!r}")

    async def main():
        it = FileData[None](path, parse, None)
        await it.before_listen(context())
        path.write_text("x" * 10**6)
        await it.look()

    asyncio.run(main())
    (error,) = [it.getMessage() for it in caplog.records if it.levelno == logging.ERROR]
    assert "not a number: b'xxx" in error
    assert error.endswith("x...; the previous content stays in use")
    assert len(error) < 1000


def test_content_with_mistakes_is_parsed_once(tmp_path):
    (path := tmp_path / "list").write_text("1")
    seen = []

    def parse(content):
        seen.append(content)
        return numbers(content)

    async def main():
        it = FileData[list[int]](path, parse, [])
        await it.before_listen(context())
        for content in ("x", "x", "y", "y", "2"):
            path.write_text(content)
            await it.look()
        assert it.value == [2]

    asyncio.run(main())
    assert seen == [b"1", b"x", b"y", b"2"]


def test_a_file_that_is_usable_again_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (path := tmp_path / "list").write_text("1 2")

    async def main():
        it = data(path)
        await it.before_listen(context())
        path.rename(tmp_path / "away")
        assert not await it.look()
        (tmp_path / "away").rename(path)
        for _ in range(2):
            assert not await it.look()

    asyncio.run(main())
    messages = [it.getMessage() for it in caplog.records]
    assert len(messages) == 3  # loaded, cannot be read, and:
    assert messages[2] == f"list {path} is usable again; its content has not changed"


@pytest.mark.parametrize(
    ("content", "options", "refused"),
    [
        (None, {}, "cannot read list"),
        (None, {"required": False}, None),
        (None, {"required": False, "interval": 0}, None),
        ("x", {"required": False}, "invalid literal"),
    ],
)
def test_a_bad_file_at_the_start(tmp_path, content, options, refused):
    path = tmp_path / "list"
    if content is not None:
        path.write_text(content)
    it = data(path, **options)
    if refused is None:
        asyncio.run(it.before_listen(context()))
        path.write_text("7")
        assert it.read()
        assert it.value == [7]
        return
    with pytest.raises(StartupError, match=refused):
        asyncio.run(it.before_listen(context()))


@pytest.mark.parametrize(("changes", "value"), [(3, [0, 1, 2, 3]), (100, list(range(11)))])
def test_a_file_that_is_being_written_is_loaded_when_it_is_complete(
    tmp_path, monkeypatch, changes, value
):
    (path := tmp_path / "list").write_text("0 ")
    waits = iter(range(1, changes + 1))

    def write_on(seconds):
        assert seconds == 0.2
        with path.open("a") as file:
            file.write("".join(f"{number} " for number in itertools.islice(waits, 1)))

    monkeypatch.setattr(filedata, "time", types.SimpleNamespace(sleep=write_on))

    async def main():
        it = data(path, settle=0.2)
        assert await it.look()
        return it.value

    assert asyncio.run(main()) == value  # one that changes all the time is loaded, too


def test_a_failure_to_forget_does_not_end_the_checks(tmp_path, caplog):
    class Failing(FileData[list[int]]):
        async def changed(self, context):
            raise RuntimeError("no thread")

    (path := tmp_path / "list").write_text("1")

    async def main():
        it, forgotten = Failing(path, numbers, [], interval=0.01, what="list"), list[bool]()
        life = context(forgotten)
        await it.before_listen(life)
        it.serving(life)
        for text in ("1 2", "1 2 3"):
            path.write_text(text)
            await until(lambda text=text: it.value == numbers(text))
        await until(lambda: len(forgotten) == 2)
        it.shutdown(life)

    asyncio.run(main())
    errors = [it.getMessage() for it in caplog.records if it.levelno == logging.ERROR]
    assert errors == [f"list {path}: old replies may stay cached: RuntimeError: no thread"] * 2


def test_a_subclass_is_told_of_a_new_value(tmp_path):
    class Noted(FileData[list[int]]):
        seen: tuple[list[int], ...] = ()

        def loaded(self):
            self.seen += (self.value,)

    (path := tmp_path / "list").write_text("1")
    it = Noted(path, numbers, [])
    assert it.read()
    assert not it.read()
    path.write_text("2")
    assert it.read()
    assert it.seen == ([1], [2])


def test_the_same_content_is_not_parsed_again(tmp_path):
    (path := tmp_path / "list").write_text("1")
    it = data(path)
    assert it.read()
    value = it.value
    path.write_text("1")
    assert not it.read()
    assert it.value is value


def test_changes_during_a_load_are_one_further_load(tmp_path):
    (path := tmp_path / "list").write_text("0")
    gate, loads = threading.Semaphore(1), []

    def gated(content):
        loads.append(content)
        assert gate.acquire(timeout=60)
        return numbers(content)

    async def main():
        it = FileData[list[int]](path, gated, [], interval=0.005)
        await it.before_listen(context())
        it.serving(context())
        path.write_text("1")
        await until(lambda: len(loads) == 2)
        for number in range(2, 9):  # while the parser holds the first change
            path.write_text(str(number))
        gate.release(2)
        await until(lambda: it.value == [8])
        it.shutdown(context())

    asyncio.run(main())
    assert loads == [b"0", b"1", b"8"]


def test_a_thread_that_never_ends_keeps_nobody():
    forever = threading.Event()

    async def main():
        task = asyncio.create_task(in_thread(forever.wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    forever.set()
    join_loading_threads()


def test_what_a_thread_raises_is_raised():
    def leave():
        sys.exit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        asyncio.run(in_thread(leave))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(lambda: 1 / 0))


class Listed(Handler):
    name = "listed"

    def __init__(self, path):
        self.data = data(path)

    async def serve_dns(self, request):
        return request.error(self.data.value[0])


def test_in_a_server(tmp_path):
    (path := tmp_path / "list").write_text("3")

    def setup(controller):
        for _ in controller.single():
            handler = Listed(path)
            controller.add_handler(handler)
            controller.register(handler.data)

    from corepy.loading.registry import find

    plugins = {**find(), "listed": inline("listed", setup)}
    with serve(". {\n listed\n}", plugins=plugins) as server:
        assert server.ask("example.org.").header.rcode == 3
        path.write_text("5")
        wait_until(lambda: server.ask("example.org.").header.rcode == 5)
        server.reload(". {\n listed\n errors\n}")
        assert server.ask("example.org.").header.rcode == 5


def test_the_event_loop_need_not_wait_for_a_thread():
    async def main():
        shortest = await asyncio.gather(*[in_thread(sys.getswitchinterval) for _ in range(3)])
        assert set(shortest) == {filedata._SWITCH}

    asyncio.run(main())


def test_a_system_without_a_further_thread(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="can't start new thread"):
        asyncio.run(in_thread(threading.Event))
