"""/ready of a running server."""

import socket

import pytest

from corepy.plugin import Handler, StartupError, hookimpl
from corepy.testing import TestServer, http_get, serve
from corepy.testing.command import wait_until
from corepy.testing.inline import with_handlers
from corepy_ready.ready import Ready


class Moody(Handler):
    """Is as ready as the test says."""

    name = "moody"

    def __init__(self) -> None:
        self.is_ready: bool | None = False
        self.asked = 0

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)

    @hookimpl
    def ready(self):
        self.asked += 1
        if self.is_ready is None:
            raise RuntimeError("do not know")
        return self.is_ready


class Other(Moody):
    name = "calm"


def get(port: int) -> tuple[int, str]:
    return http_get(port, "/ready")[:2]


def port_of(server: TestServer) -> int:
    claim = server.plugins(Ready)[0]._claim
    assert claim is not None
    return claim.address.port


BLOCK = "{zone} {{\nbind 127.0.0.1\nready 127.0.0.1:0 {{\nmonitor {monitor}\n}}\n{plugins}\nwhoami\n}}\n"


@pytest.mark.parametrize("monitor", ["until-ready", "continuously"])
def test_names_who_is_not_ready(monitor: str) -> None:
    moody, calm = Moody(), Other()
    plugins = with_handlers(moody=lambda: moody, calm=lambda: calm)
    text = BLOCK.format(zone=".", monitor=monitor, plugins="moody\ncalm")
    with serve(text, plugins=plugins) as server:
        port = port_of(server)
        assert get(port) == (503, "calm,moody")
        moody.is_ready = True
        assert get(port) == (503, "calm")
        calm.is_ready = None
        assert get(port) == (503, "calm")
        calm.is_ready = True
        assert get(port) == (200, "OK")
        moody.is_ready = False
        asked = calm.asked
        if monitor == "continuously":
            assert get(port) == (503, "moody")
            assert calm.asked == asked + 1
        else:
            assert get(port) == (200, "OK")
            assert calm.asked == asked


def test_the_same_plugin_in_two_blocks_is_named_once() -> None:
    made: list[Moody] = []

    def make() -> Moody:
        made.append(Moody())
        return made[-1]

    text = BLOCK.format(zone="a.", monitor="until-ready", plugins="moody")
    text += "b. {\nbind 127.0.0.1\nmoody\nwhoami\n}\n"
    with serve(text, plugins=with_handlers(moody=make)) as server:
        port = port_of(server)
        assert get(port) == (503, "moody")
        made[0].is_ready = True
        assert get(port) == (503, "moody")
        made[1].is_ready = True
        assert get(port) == (200, "OK")


def test_a_reload_asks_anew_and_keeps_the_address() -> None:
    made: list[Moody] = []

    def make() -> Moody:
        made.append(Moody())
        return made[-1]

    text = BLOCK.format(zone=".", monitor="until-ready", plugins="moody")
    with serve(text, plugins=with_handlers(moody=make)) as server:
        port = port_of(server)
        made[0].is_ready = True
        assert get(port)[0] == 200
        server.reload(text)
        assert port_of(server) == port
        assert get(port) == (503, "moody")
        made[1].is_ready = True
        assert get(port)[0] == 200
        server.reload(text.replace("ready 127.0.0.1:0", "ready 127.0.0.1:00"))
        assert get(port) == (503, "moody")


def test_two_blocks_share_an_address_and_any_block_may_be_without() -> None:
    text = "".join(
        f"{zone}. {{\nbind 127.0.0.1\nready 127.0.0.1:0\nwhoami\n}}\n" for zone in ("a", "b", "c")
    )
    with serve(text) as server:
        port = port_of(server)
        assert get(port) == (200, "OK")
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_a_busy_address_is_an_error_and_a_failed_reload_changes_nothing() -> None:
    text = BLOCK.format(zone=".", monitor="until-ready", plugins="")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        bad = text.replace("127.0.0.1:0", f"127.0.0.1:{busy.getsockname()[1]}")
        with pytest.raises(StartupError, match="plugin/ready: cannot listen on tcp"), serve(bad):
            pass
        with serve(text) as server:
            port = port_of(server)
            with pytest.raises(StartupError):
                server.reload(bad)
            assert get(port) == (200, "OK")


def test_says_no_in_lame_duck_mode() -> None:
    text = BLOCK.format(
        zone=".", monitor="until-ready", plugins="health 127.0.0.1:0 {\nlameduck 2s\n}"
    )
    with serve(text) as server:
        port = port_of(server)
        assert get(port) == (200, "OK")
        server.call(server._stop.set)
        wait_until(lambda: get(port) == (503, "Shutting down"))
        assert server.ask("example.org").header.rcode == 0


def test_the_address_may_be_made_by_another_plugin() -> None:
    busy = socket.socket()

    class Maker(Handler):
        name = "erratic"

        @hookimpl
        def before_listen(self):
            busy.close()

    busy.bind(("127.0.0.1", 0))
    busy.listen()
    port = busy.getsockname()[1]
    text = f". {{\nbind 127.0.0.1\nready 127.0.0.1:{port}\nerratic\n}}\n"
    with serve(text, plugins=with_handlers(erratic=Maker)):
        assert get(port) == (200, "OK")
