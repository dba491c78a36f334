"""The documentation builds without a warning, is complete, and fetches nothing from elsewhere."""

import fcntl
import importlib
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import api_reference  # noqa: E402  # found by sys.path
import draw_query  # noqa: E402  # found by sys.path
import metrics_reference  # noqa: E402  # found by sys.path

from corepy.scaffold.skeleton import skeleton  # noqa: E402  # found by sys.path

SOURCES = [*ROOT.glob("corepy/**/*.py"), *ROOT.glob("plugins/*/corepy_*/**/*.py")]
MANUALS = sorted(ROOT.glob("plugins/*/README.md"))
METRIC = re.compile(r'"((?:coredns|corepy)_[a-z_]+)"')
IN_MANUAL = re.compile(r"`((?:coredns|corepy|process|python)_\w+)(?:\{[^}]*\})?`")
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Loaded(HTMLParser):
    """Collects what a browser fetches to show a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("stylesheet", "preload", "icon"):
            return
        if address := values.get(LOADS.get(tag, "")):
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory, testrun_uid):
    """The site, built once for all processes of a test run."""
    folder = tmp_path_factory.getbasetemp().parent / f"site-{testrun_uid}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            build(folder)
    return folder


def build(folder):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.addresses
        assert [it for it in loaded.addresses if urlsplit(it).netloc] == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text()), style


@pytest.mark.parametrize("package", api_reference.PACKAGES)
def test_every_public_name_is_described(site, package):
    module = importlib.import_module(f"corepy.{package}")
    public = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    ]
    page = (site / "api" / package / "index.html").read_text()
    assert public
    assert [name for name in public if f'id="corepy.{package}.{name}"' not in page] == []


def test_every_metric_is_listed(site):
    page = (site / "metrics" / "index.html").read_text()
    declared = {name for path in SOURCES for name in METRIC.findall(path.read_text())}
    named = {name for path in MANUALS for name in IN_MANUAL.findall(path.read_text())}
    assert len(declared) > 30
    assert [name for name in sorted(declared | named) if f"<code>{name}</code>" not in page] == []


def test_metrics_have_type_labels_and_help():
    lines = metrics_reference.render().splitlines()
    wanted = (
        "| `coredns_cache_hits_total` | counter | `server`, `type`, `zones`, `view` |",
        "| `coredns_nodecache_rules` | gauge | |",
        "| `coredns_dns_request_duration_seconds` | histogram | `server`, `zone`, `view` |",
    )
    for start in wanted:
        (line,) = [line for line in lines if line.replace("|  |", "| |").startswith(start)]
        assert len(line.rsplit("|", 2)[1]) > 10


def test_the_picture_is_of_this_program():
    assert draw_query.PICTURE.read_text() == draw_query.draw()
    files = [box.file for box in draw_query.BOXES if box.file]
    assert files
    assert all((ROOT / name).is_file() for name in files)
    plugins = {path.parent.name for path in MANUALS}
    assert {"errors", "log", "cache", "forward"} <= plugins & {
        box.title for box in draw_query.BOXES
    }


def test_every_plugin_has_a_page_in_the_navigation(site):
    page = (site / "plugins" / "index.html").read_text()
    for manual in MANUALS:
        name = manual.parent.name
        assert (site / "plugins" / name / "index.html").is_file()
        assert page.count(f'href="{name}/"') >= 2  # in the table, and at the side


def test_the_table_of_directives_about_migrating_is_filled_in(site):
    page = (site / "migrating" / "index.html").read_text()
    assert "<em>bind</em>, " in re.search(r"<td>here</td>\s*<td>(.*?)</td>", page)[1]
    assert "<!-- " not in page.partition("<article")[2].partition("</article>")[0]


def test_the_example_is_shown_whole(site):
    page = (site / "example" / "index.html").read_text()
    files = skeleton("example")
    assert [name for name, text in files.items() if text and f">{name}<" not in page] == []


def test_every_page_is_in_the_navigation(site):
    home = (site / "index.html").read_text()
    pages = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")} - {"."}
    assert {"command", "multisocket", "example"} <= {page.rpartition("/")[2] for page in pages}
    assert [page for page in sorted(pages) if f'href="{page}/"' not in home] == []


def test_colours_go_with_the_system(site):
    page = (site / "index.html").read_text()
    media = re.findall(r'data-md-color-media="([^"]*)"', page)
    assert media == [f"(prefers-color-scheme{it})" for it in ("", ": light", ": dark")]


def test_corefiles_have_colours(site):
    page = (site / "plugins" / "cache" / "index.html").read_text()
    for kind, word in (("k", "forward"), ("na", "prefetch"), ("nn", ".")):
        assert f'<span class="{kind}">{word}</span>' in page
