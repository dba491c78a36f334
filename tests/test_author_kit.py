"""A plugin as a third party has it: written, built, installed beside corepy, tested, asked."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from corepy.commands.new_plugin import main
from corepy.scaffold.skeleton import TEMPLATE, skeleton
from corepy.testing import run_command

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "corepy-example"
BIN = Path(sys.executable).parent


def files_of(folder):
    """Every file in a folder that is not left over from running it."""
    left_over = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "dist"}
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not left_over & set(path.parts)
    }


def test_the_example_is_what_the_template_makes():
    """After a change: rm -r examples/corepy-example; corepy new-plugin example examples/corepy-example."""
    assert files_of(EXAMPLE) == skeleton("example")


def test_the_skeleton_follows_the_style(tmp_path):
    folder = tmp_path / "plugin"
    assert main(["greet_all", str(folder)]) == 0
    for words in ("ruff check", "ruff format --check", "mypy"):
        program, *rest = words.split()
        done = subprocess.run(
            [BIN / program, *rest], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


class Author:
    """A plugin in a folder, and where it is installed."""

    def __init__(self, name, folder, work):
        self.name = name
        self.folder = folder
        self.site = work / "site"
        self.wheels = work / "wheels"
        self.env = {**os.environ, "PYTHONPATH": str(self.site)}

    def run(self, *command, code=0):
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def build_and_install(self):
        self.run(sys.executable, "-m", "hatchling", "build", "-d", str(self.wheels))
        (wheel,) = self.wheels.glob("*.whl")
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
        self.run(*pip, "--target", str(self.site), str(wheel))
        return wheel


@pytest.fixture(scope="module", params=["example", "hello_world"])
def author(request, tmp_path_factory):
    work = tmp_path_factory.mktemp("author")
    folder = work / "source"
    if request.param == "example":
        folder.mkdir()
        for path, text in files_of(EXAMPLE).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    else:
        assert main([request.param, str(folder)]) == 0
    made = Author(request.param, folder, work)
    made.wheel = made.build_and_install()
    return made


def test_the_wheel_holds_the_package_only(author):
    names = zipfile.ZipFile(author.wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        f"corepy_{author.name}"
    }
    assert f"corepy_{author.name}/py.typed" in names


def test_its_own_tests_pass(author):
    done = author.run(str(BIN / "pytest"), "-q", "-p", "no:cacheprovider")
    assert int(re.search(r"(\d+) passed", done)[1]) >= 14
    assert "failed" not in done


def test_it_is_listed_in_its_place(author):
    assert f"\n{author.name}\n" in "\n" + author.run(str(BIN / "corepy"), "-plugins")
    lines = author.run(str(BIN / "corepy"), "-plugins", "-order").splitlines()
    names = [line.split()[0] for line in lines]
    at = names.index(author.name)
    assert names[at + 1] == "cache"
    assert lines[at].split(None, 1)[1] == f"right above cache: the default (corepy-{author.name})"


def test_corefiles_of_its_readme_are_valid(author, tmp_path):
    text = (author.folder / "README.md").read_text()
    blocks = re.findall(r"^```corefile\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "Corefile").write_text(block)
        author.run(str(BIN / "corepy"), "-check", "-conf", str(tmp_path / "Corefile"))


@pytest.mark.parametrize("flags", [(), ("-supervise",)])
def test_its_corefile_answers(author, flags):
    text = (author.folder / "Corefile").read_text()
    with run_command(text, *flags, env=author.env) as server:
        reply = server.ask("www.example.org.", "TXT")
        assert [str(rr.rdata) for rr in reply.rr] == [f'"Hello from {author.name}"']
        assert server.ask("www.example.org.", "A").ar, "whoami answers the rest"


def test_what_to_do_next_is_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["hello"]) == 0
    printed = capsys.readouterr().out
    assert "cd corepy-hello\n" in printed
    assert "dig @127.0.0.1 -p 1053 hello.example.org TXT" in printed
    assert (tmp_path / "corepy-hello" / "corepy_hello" / "handler.py").is_file()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Hello", "not a valid plugin name: use lower-case letters"),
        ("he-llo", "not a valid plugin name"),
        ("2fast", "not a valid plugin name"),
        ("_x", "not a valid plugin name"),
        ("x__y", "not a valid plugin name"),
        ("", "not a valid plugin name"),
        ("h\u00e9llo", "not a valid plugin name"),
        ("../up", "not a valid plugin name"),
        ("x" * 41, "at most 40"),
        ("dns", "corepy-dns is the distribution of corepy"),
        ("import", "a keyword of the Corefile"),
        ("cache", "the distribution corepy-dns provides this directive"),
    ],
)
def test_bad_names_are_refused_in_one_line(name, words, tmp_path, capsys):
    assert main([name, str(tmp_path / "new")]) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not (tmp_path / "new").exists()


def test_an_import_name_that_is_taken_is_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "corepy_taken").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["taken", str(tmp_path / "new")]) == 1
    assert "a package corepy_taken is installed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "file", "dangling"])
def test_what_exists_is_left_alone(kind, tmp_path, capsys):
    there = tmp_path / "there"
    make = {
        "folder": there.mkdir,
        "file": there.touch,
        "dangling": lambda: there.symlink_to("nowhere"),
    }
    make[kind]()
    assert main(["hello", str(there)]) == 1
    error = capsys.readouterr().err
    assert error == f"corepy new-plugin: {there} exists already; give another folder\n"
    assert not there.is_dir() or not list(there.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["hello", str(tmp_path / "file" / "new")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_the_template_has_no_other_placeholders():
    for path, text in skeleton("hello").items():
        assert "@name@" not in text, path
        assert "@Class@" not in text, path
        assert "NAME" not in path
    assert len(skeleton("hello")) == len([it for it in TEMPLATE.rglob("*") if it.is_file()])
