"""The page of *console* in Chromium."""

import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

import pytest

import corepy_console
from corepy.testing import free_port, serve
from corepy.testing.browser import browser as running_browser
from corepy_console.endpoint import Console

TOKEN = "s3cr3t-t0ken-of-24-chars"
TEXT = """\
example.org {{
    bind 127.0.0.1
    console {address} {{
        {options}
    }}
    cache
    forward . 127.0.0.1:{upstream} {{
        max_fails 0
    }}
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
    }}
}}
# right to left: \u202e
"""
HOSTILE = "<img\\032src=x\\032onerror=document.title=1>.example.org"
LIVE = "document.getElementById('connection').textContent === 'live'"
EXPECTED = ("400 (Bad Request)", "401 (Unauthorized)")
STYLE = Path(corepy_console.__file__).parent / "page/console.css"


def text(options="", address="127.0.0.1:0"):
    return TEXT.format(options=options, address=address, upstream=9)


def url_of(server):
    (console,) = server.plugins(Console)
    return f"http://127.0.0.1:{console._claim.address.port}/"


@pytest.fixture(scope="module")
def browser():
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server():
    with serve(text()) as server:
        for name in ("www.example.org", HOSTILE):
            server.ask(name)
        yield server


@pytest.fixture
def open_page(browser, server):
    """Open the page, and check afterwards that the browser has nothing to complain of."""

    @contextmanager
    def open_page(*size, url=None, **features):
        page = browser.page(*size, **features)
        page.open(url or url_of(server))
        page.wait_for(f"{LIVE} || !document.getElementById('login').hidden")
        yield page
        assert [it for it in page.complaints if not it.endswith(EXPECTED)] == []
        page.send("Page.close")

    return open_page


def test_figures_are_shown_and_refreshed(server, open_page):
    with open_page() as page:
        page.wait_for("document.querySelectorAll('#files li').length > 10")
        assert "Queries per second" in page.text("#tiles")
        assert "www.example.org." in page.text("#top-tables")
        assert "127.0.0.1:9" in page.text("#upstream-table")
        assert "dns://127.0.0.1" in page.text("#listener-table")
        assert "cache > template > forward" in page.text("#block-table")
        assert "forward . 127.0.0.1:9" in page.text("#files")
        assert page.evaluate("document.querySelectorAll('svg.chart path').length") >= 8
        assert page.evaluate("document.getElementById('problems').hidden")
        server.ask("later.example.org")
        page.wait_for("document.getElementById('top-tables').innerText.includes('later.example')")


def test_names_of_the_network_are_text(open_page):
    with open_page() as page:
        page.wait_for("document.querySelectorAll('#files li').length > 10")
        shown = page.text("#top-tables")
        assert "<img\\ src=x\\ onerror=document.title=1>.example.org." in shown
        assert page.evaluate("document.querySelectorAll('main img').length") == 0
        assert page.evaluate("document.title") == "corepy"
        assert "right to left: \\u{202e}" in page.text("#files")


def test_an_answer_is_explained_with_the_keyboard_alone(open_page):
    with open_page() as page:
        page.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        page.press("Enter")
        page.wait_for("document.activeElement.id === 'main'")
        for _ in range(200):
            page.press("Tab")
            if page.evaluate("document.activeElement.id") == "name":
                break
        page.type_in("Asked.example.org")
        page.press("Enter")
        page.wait_for("document.querySelector('#explanation ol.steps')")
        assert "template: matches" in page.text("ol.steps")
        assert "asked.example.org.\t60\tIN\tA\t192.0.2.1" in page.text("#explanation pre")
        page.evaluate("document.getElementById('client').value = 'x'")
        page.press("Enter")
        page.wait_for("document.querySelector('#explanation .bad')")
        assert "is not an IP address" in page.text("#explanation")


def test_lists_are_sorted_by_their_heads(open_page):
    with open_page() as page:
        head = "document.querySelectorAll('#listener-table th[scope=col]')[1]"
        column = "[...document.querySelectorAll('#listener-table tbody tr')].map(it => it.cells[1].textContent)"
        page.evaluate(f"{head}.firstChild.click()")
        assert page.evaluate(column) == ["tcp", "udp"]
        assert page.evaluate(f"{head}.getAttribute('aria-sort')") == "ascending"
        page.evaluate(f"{head}.firstChild.click()")
        assert page.evaluate(column) == ["udp", "tcp"]
        assert page.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"


def test_a_screen_reader_finds_names_for_all(open_page):
    with open_page() as page:
        page.wait_for("document.querySelector('#block-table tbody tr')")
        nodes = page.send("Accessibility.getFullAXTree")["nodes"]
        kinds: dict[str, list[str]] = {}
        for node in nodes:
            if not node.get("ignored"):
                name = node.get("name", {}).get("value", "")
                kinds.setdefault(node["role"]["value"], []).append(name)
        for role in ("button", "textbox", "checkbox", "link", "heading", "image", "navigation"):
            assert kinds[role]
            assert all(kinds[role]), role
        assert len(kinds["image"]) == 3  # the charts
        assert all("Latest" in name for name in kinds["image"])
        assert {"main", "status", "columnheader", "rowheader"} <= kinds.keys()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_into_phones_in_both_schemes(open_page, scheme):
    with open_page(320, 800, prefers_color_scheme=scheme) as page:
        page.wait_for("document.querySelectorAll('#files li').length > 10")
        for width in (320, 390, 1200):
            page.resize(width, 800)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")


def test_the_token_is_asked_for(tmp_path, open_page):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    with serve(text(f"token {path}")) as server, open_page(url=url_of(server)) as page:
        assert page.evaluate("document.getElementById('main').hidden")
        assert page.evaluate("document.activeElement.id") == "token"
        page.type_in(f"wrong {TOKEN}")
        page.press("Enter")
        page.wait_for("document.getElementById('login-error').textContent")
        assert page.text("#login-error") == "the token is missing or wrong"
        page.type_in(TOKEN)
        page.press("Enter")
        page.wait_for(LIVE)
        assert page.evaluate("document.getElementById('login').hidden")
        assert TOKEN not in page.evaluate("location.href + document.documentElement.outerHTML")
        page.open(url_of(server))
        page.wait_for(LIVE)


def test_a_server_that_goes_away_and_comes_back_is_shown_again(browser):
    address = f"127.0.0.1:{free_port()}"
    page = browser.page()
    with serve(text(address=address)):
        page.open(f"http://{address}/")
        page.wait_for(LIVE)
    page.wait_for("document.getElementById('connection').classList.contains('lost')")
    with serve(text(address=address)):
        page.wait_for(LIVE)
    page.send("Page.close")


class OtherSite(BaseHTTPRequestHandler):
    """A page of another origin that frames the console."""

    target = ""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f"<p>other</p><iframe src='{self.target}'></iframe>".encode())

    def log_message(self, *_):
        pass


def test_other_sites_can_neither_frame_nor_ask(server, browser):
    """This one has even the same host, at another port."""
    OtherSite.target = url = url_of(server)
    with HTTPServer(("127.0.0.1", 0), OtherSite) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        page = browser.page()
        page.open(f"http://127.0.0.1:{other.server_port}/")
        (child,) = page.send("Page.getFrameTree")["frameTree"]["childFrames"]
        assert child["frame"]["unreachableUrl"] == url
        ask = f"fetch('{url}api/%s', %s).then(() => 'answered', error => error.name)"
        planted = "explain?name=planted.example.org"
        for path, options in {
            "stats": "{}",
            "history": "{mode: 'no-cors'}",
            f"{planted}&type=A": "{headers: {'X-Corepy-Console': '1'}}",
            f"{planted}&type=MX": "{mode: 'no-cors'}",
        }.items():
            assert page.evaluate(ask % (path, options)) == "TypeError"
        other.shutdown()
    request = Request(f"{url}api/{planted}", headers={"X-Corepy-Console": "1"})
    with urlopen(request) as answer:  # the cache would have it if the server had been asked
        assert "miss" in json.load(answer)["steps"][0]["before"]["state"]


def colors(block):
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))


def luminance(color):
    """WCAG 2.2, relative luminance."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme):
    light, dark = re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)
    found = colors(light if scheme == "light" else dark)
    for name in ("text", "soft", "link", "good", "warn", "bad"):
        for ground in ("back", "card"):
            assert contrast(found[name], found[ground]) >= 4.5, (name, ground)
    for name in ("one", "two", "three"):  # lines of graphs
        assert contrast(found[name], found["back"]) >= 3, name
