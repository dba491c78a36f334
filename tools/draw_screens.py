"""Makes the screenshots of the console and the capture of `corepy top` for the documentation.

Starts a server with the plugins of a node, sends it queries for a while, and shows it in Chromium
and in a pseudo-terminal. Run it as root in namespaces of its own, where *nodecache* may add its
rules, and where other servers of this host are not seen; it needs the packages chromium, iproute2
and iptables:

    unshare --net --mount .venv/bin/python tools/draw_screens.py [MINUTES]

It writes docs/img/console-*.png and prints the screens of `corepy top`, for docs/top.md.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dnslib

from corepy.testing import Upstream, query, reply_of, run_command
from corepy.testing.browser import browser
from corepy.testing.pseudo_terminal import pseudo_terminal

if TYPE_CHECKING:
    from corepy.testing.browser import Page

ROOT: Final = Path(__file__).parent.parent
LOCAL: Final = "169.254.20.10"
URL: Final = "http://127.0.0.1:8053/"
CLIENTS: Final = [f"10.244.1.{number}" for number in range(7, 19)]
SERVICES: Final = ("api", "web", "db", "cache", "auth", "search", "mail", "queue")
DOMAINS: Final = ("www.example.org", "api.example.com", "cdn.example.net", "mirror.example.org")
COREFILE: Final = """\
.:53 {{
    bind {local}
    nodecache {{
        device off
    }}
    console 127.0.0.1:8053
    errors
    cache 30
    forward . {upstreams} {{
        max_fails 3
        health_check 1s
    }}
    reload
}}
cluster.local:53 {{
    bind {local}
    errors
    cache 30
    forward . {cluster} {{
        force_tcp
    }}
}}
"""


def answer(asked: dnslib.DNSRecord, _: str) -> bytes:
    """Answer as name servers of a cluster and of the Internet do."""
    time.sleep(secrets.randbelow(4) / 1000)
    name = str(asked.q.qname)
    if "broken" in name:
        return reply_of(asked, rcode=2)
    if name.endswith("svc.cluster.local.") and name.split(".")[0] in SERVICES:
        return reply_of(asked, [f"{name} 30 IN A 10.96.0.20"])
    if "cluster.local" in name:
        return reply_of(asked, rcode=3)
    return reply_of(asked, [f"{name} 30 IN A 192.0.2.80"])


def names() -> list[str]:
    """Return the names that one client asks for at a time."""
    kind = secrets.randbelow(100)
    if kind < 55:
        service = SERVICES[min(secrets.randbelow(8), secrets.randbelow(8))]
        return [f"{service}.shop.svc.cluster.local"]
    if kind < 95:  # the search list of a pod
        name = DOMAINS[min(secrets.randbelow(4), secrets.randbelow(4))]
        return [f"{name}.shop.svc.cluster.local", f"{name}.svc.cluster.local", name]
    if kind < 98:
        return [f"h{secrets.randbelow(200)}.example.org"]
    return ["broken.example.com"]


def send(until: float, ended: threading.Event) -> None:
    """Send queries from several clients until a monotonic time, and drop the replies."""
    sockets = []
    for client in CLIENTS:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((client, 0))
        sock.setblocking(False)
        sock.connect((LOCAL, 53))
        sockets.append(sock)
    while not ended.is_set():
        left = until - time.monotonic()
        rate = 60 + 35 * math.sin(left / 140) + 20 * math.sin(left / 31)
        sock = sockets[min(secrets.randbelow(12), secrets.randbelow(12), secrets.randbelow(12))]
        for name in names():
            sock.send(query(name))
        try:
            while sock.recv(4096):
                pass
        except OSError:
            pass
        ended.wait(1.7 / rate)


def shoot(page: Page, name: str, selector: str = "") -> None:
    """Write a screenshot."""
    path = ROOT / f"docs/img/console-{name}.png"
    path.write_bytes(page.screenshot(selector))
    sys.stderr.write(f"{path}: {path.stat().st_size >> 10} KiB\n")


def shoot_all() -> None:
    """Write the screenshots of the console."""
    with browser() as running:
        page = running.page(1100, 780)
        page.open(URL)
        page.wait_for("document.querySelector('#files li')")
        page.wait_for(
            "[...document.querySelectorAll('#upstream-table td.number')]"
            ".some(it => Number(it.textContent))"
        )
        shoot(page, "light")
        page.evaluate("document.getElementById('name').value = 'web.shop.svc.cluster.local'")
        page.evaluate("document.querySelector('#question button').click()")
        page.wait_for("document.querySelector('ol.steps')")
        shoot(page, "explain", "#explain")
        phone = running.page(390, 780, prefers_color_scheme="dark")
        phone.open(URL)
        phone.wait_for("document.querySelector('#files li')")
        shoot(phone, "dark")


def capture(folder: str, conf: Path) -> None:
    """Print the screens of `corepy top`."""
    words = (sys.executable, "-m", "corepy", "top", "-interval", "5")
    with pseudo_terminal(*words, env={"RUNTIME_DIRECTORY": folder}, size=(100, 30)) as terminal:
        terminal.wait_for("cpu ")
        sys.stdout.write(terminal.text.replace(str(conf), "Corefile") + "\n\f\n")
        terminal.press("5")
        terminal.wait_for("do not exist")
        sys.stdout.write(terminal.text.replace(str(conf), "Corefile") + "\n")
        terminal.press("q")
        terminal.wait_for_end()


def run(*words: str) -> None:
    """Run a program of the system."""
    subprocess.run(words, check=True)  # noqa: S603 - the words are those below


def main(minutes: float) -> None:
    """Make all pictures after `minutes` of traffic."""
    for words in (
        "link set lo up",
        "route add default dev lo",
        *(f"address add {address}/32 dev lo" for address in (LOCAL, *CLIENTS)),
    ):
        run("ip", *words.split())
    os.makedirs("/run/corepy", exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/run/corepy")
    ended = threading.Event()
    with (
        tempfile.TemporaryDirectory() as folder,
        Upstream(answer) as first,
        Upstream(answer) as second,
        Upstream(answer) as cluster,
    ):
        places = [f"127.0.0.1:{it.address[1]}" for it in (first, second, cluster)]
        text = COREFILE.format(
            local=LOCAL, upstreams=f"{places[0]} {places[1]} 127.0.0.1:9", cluster=places[2]
        )
        os.environ["RUNTIME_DIRECTORY"] = folder
        with run_command(text) as server:
            until = time.monotonic() + minutes * 60
            sender = threading.Thread(target=send, args=(until, ended))
            sender.start()
            try:
                while time.monotonic() < until:
                    time.sleep(1)
                capture(folder, server.conf)
                shoot_all()
            finally:
                ended.set()
                sender.join()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
