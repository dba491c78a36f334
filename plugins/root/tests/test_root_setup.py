"""The directive (plugin/root/root_test.go), and that paths of other directives begin at its folder."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corepy import corefile
from corepy.loading.orderfile import parse_order
from corepy.loading.registry import find
from corepy.plugin import CorefileError, Root
from corepy.server.build.builder import build
from corepy.testing import Recorder, refusal, set_up
from corepy.testing.inline import inline


@pytest.mark.parametrize(
    ("text", "folder", "warnings"),
    [
        ("root {tmp}", "{tmp}", []),
        ("root {tmp}/missing", "{tmp}/missing", ["root path does not exist: {tmp}/missing"]),
        ("root {tmp}/file", "{tmp}/file", ["root path is not a folder: {tmp}/file"]),
        ("root /missing\nroot {tmp}", "{tmp}", []),
        ("root .", "", []),
        ('root "{tmp}/a folder"', "{tmp}/a folder", []),
    ],
)
def test_accepted(tmp_path, text, folder, warnings):
    (tmp_path / "file").touch()
    (tmp_path / "a folder").mkdir()
    controller = set_up(text.format(tmp=tmp_path))
    assert controller.config.get(Root) == Root(Path(folder.format(tmp=tmp_path)))
    assert [it.message for it in controller.warnings] == [w.format(tmp=tmp_path) for w in warnings]
    assert not controller.handlers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root", "wrong argument count or unexpected line ending after 'root'"),
        ("root {\n/tmp\n}", "wrong argument count or unexpected line ending after 'root'"),
        ("root /tmp {\n}", "unexpected token '{', expecting an argument"),
        ("root /tmp /", "wrong argument count or unexpected line ending after '/'"),
        ("root /tmp / /", "wrong argument count or unexpected line ending after '/'"),
        (f"root /{'x' * 300}", f"unable to access root path '/{'x' * 300}': File name too long"),
    ],
)
def test_refused(text, message):
    assert refusal(text).message == message


def test_a_folder_that_cannot_be_read_is_refused(tmp_path):
    """A thread of the superuser can give up its right to read every file (setfsuid(2))."""
    libc = ctypes.CDLL(None)
    tmp_path.chmod(0)

    def read_as_nobody():
        libc.setfsuid(65534)
        return refusal(f"root {tmp_path}").message

    assert refusal("root").message  # the plugin is imported
    with ThreadPoolExecutor() as threads:
        found = threads.submit(read_as_nobody).result()
    tmp_path.chmod(0o700)
    assert found == f"unable to access root path '{tmp_path}': Permission denied"


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    diagnostic = refusal(f"root {tmp_path}/loop")
    expected = f"unable to access root path '{tmp_path}/loop': Too many levels of symbolic links"
    assert diagnostic.message == expected
    assert diagnostic.token.text == f"{tmp_path}/loop"


TEXT = "example.org:0 {{\nhosts {path}\nroot {root}\n}}\nexample.net:0 {{\nhosts {path}\n}}\n"


def paths_of(path, root, order=""):
    """Return the paths that the directives *hosts* of two blocks name; one block has *root*."""
    paths = []

    def setup(controller):
        controller.next()
        paths.append(controller.path(controller.argument()))
        controller.add_handler(Recorder())

    plugins = {**find(), "hosts": inline("hosts", setup)}
    parsed = corefile.parse(TEXT.format(path=path, root=root), "Corefile")
    build(parsed, 0, plugins, rules=parse_order(order, "order"))
    return paths


@pytest.mark.parametrize("order", ["", "root after hosts"])
def test_paths_begin_at_the_folder_whatever_the_order(tmp_path, order):
    assert paths_of("zones/a", tmp_path, order) == [tmp_path / "zones" / "a", Path("zones/a")]
    assert paths_of("/zones/a", tmp_path, order) == [Path("/zones/a"), Path("/zones/a")]


def test_a_conflict_is_not_possible_within_one_directive(tmp_path):
    controller = set_up(f"root {tmp_path}\nroot /")
    assert controller.config.get(Root) == Root(Path("/"))
    with pytest.raises(CorefileError, match="wrong argument count"):
        set_up(f"root {tmp_path}\nroot")
