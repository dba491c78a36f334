"""Corefiles put together from pieces: a server, or mistakes with a place; and what fmt makes of them."""

from __future__ import annotations

import pytest

from corepy.corefile import Corefile, CorefileError, format_text, parse, render, to_json
from corepy.server.build.builder import build
from corepy.testing.fuzzing import Source, briefly

KEYS = (
    ".", ".:53", "example.org", "example.org:1053", "dns://a.:5", "tls://.:853", "grpc://.", "10.0.0.0/8",
    "10.0.0.0/33", "10.0.0.0/\\00", "2001:db8::/32", "2001:db8::/129", "\\999.example", "\\00_0dir", "\\000.a",
    "a..b", "x" * 64, "x." * 127 + "x", "é.example", "[::1]:53", ":99999", ":", "", "{", "{$NONE}", "{%NONE%}",
    "*.example", "a,b", "(snippet)", "a\\.b", "\\", ".example", "a b", "10.0.0.1", "in-addr.arpa",
)  # fmt: skip
DIRECTIVES = (
    "whoami", "log", "errors", "cache", "forward", "bind", "loadbalance", "template", "bufsize", "debug",
    "minimal", "nsid", "metadata", "loop", "ready", "health", "prometheus", "reload", "timeouts",
    "multisocket", "import", "fnord", "snippet", "whoamI",
)  # fmt: skip
WORDS = (
    ".", "30", "30s", "-1", "99999999999999999999", "1h1h", "example.org", "\\999.example", "except", "success",
    "denial", "prefetch", "10%", "serve_stale", "127.0.0.1", "127.0.0.1:53", "tls://127.0.0.1", "::1",
    "fe80::1%lo", "/etc/none", "policy", "random", "expire", "IN", "ANY", "A", "answer", "rcode", "NXDOMAIN",
    "'", '"', '"a b"', "`a`", "#", "# b", "{", "}", "{ }", "\\", "\0", "\t", "{$HOME}", "{{ .Name }} 60 IN A 1.2.3.4",
    "x" * 300, "10.0.0.0/\\00", "\xff", "..", ":0", "udp", "class", "all", "x." * 130, "0.0.0.0", "combined",
)  # fmt: skip


def line(source: Source, first: tuple[str, ...]) -> str:
    words = [source.pick(first), *(source.pick(WORDS) for _ in range(source.number(0, 4)))]
    return " ".join(words)


def build_text(source: Source) -> str:
    lines = []
    for _ in range(source.number(0, 3)):
        keys = [source.pick(KEYS) for _ in range(source.number(1, 2))]
        lines.append(source.pick((" ", ", ", ",")).join(keys) + " {")
        for _ in range(source.number(0, 4)):
            lines.append(line(source, DIRECTIVES) + (" {" if source.one_in(3) else ""))
            if lines[-1].endswith(" {"):
                lines += [line(source, WORDS) for _ in range(source.number(0, 3))]
                lines.append("}" if not source.one_in(20) else "")
        lines.append("}" if not source.one_in(20) else "")
    text = source.pick(("\n", "\n", "\r\n", "\n\n")).join(lines) + "\n"
    return text if not source.one_in(12) else text[: source.number(0, len(text))]


def read(text: str) -> Corefile | None:
    try:
        return parse(text, "Corefile", {"HOME": "/root"})
    except CorefileError as error:
        check_mistakes(text, error)
        return None


def check_mistakes(text: str, error: CorefileError) -> None:
    assert error.diagnostics
    lines = text.count("\n") + text.count("\r") + 1
    for each in error.diagnostics:
        assert each.message
        assert "failed in setup" not in each.message, "a plugin raised what is no mistake"
    assert render(error.diagnostics)
    assert to_json(error.diagnostics)
    tokens = [each.token for each in error.diagnostics if each.token is not None]
    assert all(1 <= token.line <= lines for token in tokens)


def meaning(corefile: Corefile) -> list[object]:
    return [
        ([key.text for key in block.keys], [[t.text for t in d.tokens] for d in block.statements])
        for block in corefile.blocks
    ]


def check(data: bytes) -> None:
    source = Source(data)
    if source.one_in(8):
        text = source.take(source.left).decode("utf-8", "replace")
    else:
        text = build_text(source)
    corefile = read(text)
    try:
        formatted = format_text(text, "Corefile")
    except CorefileError as error:
        check_mistakes(text, error)
    else:
        assert format_text(formatted, "Corefile") == formatted
        again = read(formatted)
        assert (again is None) == (corefile is None)
        if corefile is not None and again is not None:
            assert meaning(again) == meaning(corefile)
    if corefile is not None:
        try:
            build(corefile, checking=True)
        except CorefileError as error:
            check_mistakes(text, error)


def raw(text: str) -> bytes:
    """The input that stands for just this Corefile."""
    return b"\7" + text.encode()


SEEDS = {
    key: raw(f"{key} {{\n whoami\n}}\n")
    for key in (
        "\\999.example",
        "\\00_0dir",
        "10.0.0.0/\\00",
        "x." * 127 + "xx",
        "x" * 64,
        "{$NONE}",
        '""',
    )
} | {
    f"{directive} {word[:16]}": raw(f". {{\n {directive} {word}\n}}\n")
    for directive in (
        "cache 30 ",
        "forward",
        "forward . 127.0.0.1 {\nexcept",
        "log",
        "template IN A",
    )
    for word in ("\\999.example", "x." * 127 + "xx", "10.0.0.0/\\00")
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_corefile() -> None:
    briefly(check)
