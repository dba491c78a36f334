"""HTTP on sockets of the Unix domain."""

import asyncio
import stat

import pytest

from corepy.http import HTTPResponse, check_unix_path, claim_unix
from corepy.http.unix_socket import UnixAddress, open_unix
from corepy.net.sockets import BindError

REQUEST = b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


async def fetch(path):
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(REQUEST)
    try:
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


def answer(text):
    return lambda _: HTTPResponse(text)


def test_claims_share_a_socket(tmp_path):
    path = tmp_path / "s"

    async def run():
        first = await claim_unix(str(path))
        first.serve("/x", answer(b"1"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        inode = path.stat().st_ino
        second = await claim_unix(str(path))
        second.serve("/x", answer(b"2"))
        assert await fetch(path) == b"2"
        await first.close()
        assert (await fetch(path), path.stat().st_ino) == (b"2", inode)
        await second.close()

    asyncio.run(run())
    assert [*tmp_path.iterdir()] == []


def test_a_later_process_takes_the_path(tmp_path):
    """As at an upgrade: the process before keeps its connections, and leaves the path alone."""
    path = tmp_path / "s"

    async def run():
        old = await claim_unix(str(path))
        old.serve("/x", answer(b"old"))
        reader, writer = await asyncio.open_unix_connection(str(path))
        sock, _ = open_unix(UnixAddress(str(path)))  # by the process after
        with sock:
            writer.write(REQUEST)
            assert (await reader.read()).endswith(b"old")
            writer.close()
            await old.close()
            assert path.exists()

    asyncio.run(run())


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_an_impossible_path_is_an_error(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(BindError, match=f"cannot listen on unix:{tmp_path}/{folder}/s: "):
        asyncio.run(claim_unix(f"{tmp_path}/{folder}/s"))


@pytest.mark.parametrize("path", ["x", "", "/a/", f"/{'x' * 90}", "/a\0b"])
def test_invalid_paths_are_refused(path):
    with pytest.raises(ValueError, match="path"):
        check_unix_path(path)
