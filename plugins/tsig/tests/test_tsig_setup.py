"""The *tsig* directive: what it takes and what it refuses (plugin/tsig/setup_test.go)."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import CorefileError, parse
from corepy.dns.constants import OPCODES, TYPES
from corepy.dns.names import from_text
from corepy.dns.tsig import HMAC_SHA256, TSIGKey
from corepy.plugin import TSIGKeys
from corepy.server.build.builder import build
from corepy.testing import refusal, set_up
from corepy_tsig.keys import FileError, Key, read_file
from corepy_tsig.tsig import TSIGHandler

SECRET = "NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk="
OTHER = "X28hl0BOfAL5G0jsmJWSacrwn7YRm2f6U5brnzwWEus="
KEYS = f"secret name.key. {SECRET}\nsecret name2.key. {OTHER}"


def block(*lines):
    return "tsig {\n" + "".join(f" {line}\n" for line in lines) + "}"


def accepted(text):
    controller = set_up(text)
    (handler,) = controller.handlers
    assert isinstance(handler, TSIGHandler)
    return handler, controller.config.get(TSIGKeys), controller


def numbers(table, container):
    return {name for name, number in table.items() if number in container}


@pytest.mark.parametrize(
    ("lines", "types", "opcodes"),
    [
        ((), set(), set()),
        (("require all",), set(TYPES), set()),
        (("require none",), set(), set()),
        (("require A AAAA",), {"A", "AAAA"}, set()),
        (("require_opcode UPDATE NOTIFY",), set(), {"UPDATE", "NOTIFY"}),
        (("require_opcode all",), set(), set(OPCODES)),
        (("require_opcode none",), set(), set()),
        (("require AXFR", "require_opcode UPDATE"), {"AXFR"}, {"UPDATE"}),
        (("require A", "require AXFR"), {"AXFR"}, set()),
    ],
)
def test_accepted(lines, types, opcodes):
    handler, keys, controller = accepted(block(KEYS, *lines))
    assert handler.zones.zones == (".",)
    assert numbers(TYPES, handler.types) == types
    assert numbers(OPCODES, handler.opcodes) == opcodes
    assert handler.denies_clients == bool(types or opcodes)
    assert {name: base64.b64encode(secret).decode() for name, secret in keys.secrets.items()} == {
        from_text("name.key."): SECRET,
        from_text("name2.key."): OTHER,
    }
    assert controller.warnings == []


def test_zones_are_those_of_the_arguments():
    handler, _, _ = accepted("tsig example.com Example.ORG {\n" + KEYS + "\n}")
    assert handler.zones.zones == ("example.com.", "example.org.")


def test_names_of_keys_are_compared_without_case():
    _, keys, _ = accepted(block(f"secret Name.KEY {SECRET} HMAC-SHA512"))
    key = keys.key(from_text("name.key."))
    assert key == TSIGKey(
        from_text("name.key."), base64.b64decode(SECRET), from_text("hmac-sha512.")
    )
    assert SECRET not in repr(key)
    assert "secret=" not in repr(key)
    assert keys.key(from_text("other.")) is None


def test_a_key_without_an_algorithm_signs_with_sha256():
    _, keys, _ = accepted(block(f"secret a. {SECRET}"))
    assert keys.key(from_text("a.")).algorithm == HMAC_SHA256


def test_words_behind_all_are_ignored_with_a_warning():
    _, _, controller = accepted(block("require all A"))
    (warning,) = controller.warnings
    assert str(warning) == "Corefile:3:14: warning: 'A' is ignored: all is before it"


HINT = "(secret NAME KEY [ALGORITHM])"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # Those of CoreDNS.
        (("blah",), "3:2: unknown option 'blah'"),
        (("secret name. too many parameters",), "3:2: secret needs the name of a key and its"),
        (("require",), "3:2: wrong argument count or unexpected line ending after 'require'"),
        (("require invalid-qtype",), "3:10: unknown query type 'invalid-qtype'"),
        (("require_opcode",), "3:2: wrong argument count or unexpected line ending"),
        (("require_opcode INVALID",), "3:17: unknown opcode 'INVALID'"),
        # Our own.
        (("require axfr",), "3:10: unknown query type 'axfr' (did you mean 'AXFR'?)"),
        (("secret a.",), f"3:2: secret needs the name of a key and its secret {HINT}"),
        (("secret a..b " + SECRET,), "3:9: the name of a key is not a domain name"),
        (("secret a. test-key",), "3:12: the secret of a key is not base64"),
        (('secret a. ""',), "3:12: the secret of a key is empty"),
        ((f"secret a. {SECRET} hmac-md5",), "3:57: the algorithm of a key is unknown"),
        ((f"secret a. {SECRET}", f"secret A {SECRET}"), "4:9: key 'a.' redefined"),
        (("refuse_earlier 1",), "3:17: wrong argument count"),
        (("secrets",), "3:2: wrong argument count"),
        (("secrets /nonexistent/file",), "3:10: cannot read the file of keys '/nonexistent/file'"),
        (('secrets "a\0b"',), "3:10: cannot read the file of keys"),
    ],
)
def test_refused(lines, message):
    assert str(refusal(block(*lines))).startswith(f"Corefile:{message}")


def test_the_directive_is_used_once():
    message = str(refusal("tsig\ntsig"))
    assert message == "Corefile:3:1: this plugin can only be used once per Server Block"


# -- secrets are not shown


@pytest.mark.parametrize(
    "line",
    [
        f"secert name. {SECRET}",
        f"secret name. {SECRET} surplus surplus",
        f"secret {SECRET} name.",
        f"secret {SECRET}",
        f"secret name. {SECRET}!",
        f"secret name. {SECRET} {SECRET}",
        f"secret a. {OTHER}\n secret a. {SECRET}",
        f"{SECRET}",
    ],
)
def test_an_error_shows_no_secret(line):
    with pytest.raises(CorefileError) as raised:
        set_up(block(line))
    text = str(raised.value)
    known = {SECRET, OTHER} if not line.startswith(SECRET) else set()
    assert not [it for it in known if it in text]
    assert "Corefile:3" in text
    assert known == set() or "*" * len(SECRET) in text


def test_a_block_on_one_line_shows_no_secret():
    with pytest.raises(CorefileError) as raised:
        set_up(f"tsig {{ secret a. {SECRET} }}")
    assert SECRET not in str(raised.value)


def test_a_warning_about_a_key_of_two_blocks_shows_no_secret():
    text = "".join(
        f"{zone}:5353 {{\n tsig {{\n  secret a. {secret}\n }}\n whoami\n}}\n"
        for zone, secret in (("a.test", SECRET), ("b.test", OTHER))
    )
    generation = build(parse(text))
    (warning,) = [str(CorefileError(it)) for it in generation.warnings]
    assert "this key replaces a key" in warning
    assert f"secret a. {'*' * len(OTHER)}" in warning


# -- files of keys


def key_file(*keys):
    return "".join(f'key "{name}" {{\n\t{rest}\n}};\n' for name, rest in keys).encode()


def test_a_file_of_keys_is_read(tmp_path):
    """plugin/tsig/setup_test.go: TestParseKeyFile, and comments."""
    path = tmp_path / "keys.conf"
    path.write_bytes(
        b"# a comment\n// another\n/* a\nthird */\n"
        + key_file(
            ("foo", f'algorithm hmac-sha512;\n\tsecret "{SECRET}";'),
            ("BAR", f'algorithm hmac-md5;\n\tsecret "{OTHER}";'),
            ("baz", f"secret {OTHER}"),
        )
    )
    controller = set_up(block(f"secrets {path}", f"secret qux. {SECRET}"))
    keys = controller.config.get(TSIGKeys)
    assert {name: base64.b64encode(secret).decode() for name, secret in keys.secrets.items()} == {
        b"\3foo\0": SECRET,
        b"\3bar\0": OTHER,
        b"\3baz\0": OTHER,
        b"\3qux\0": SECRET,
    }
    assert keys.algorithms == {b"\3foo\0": from_text("hmac-sha512.")}
    assert controller.files == [path]
    (warning,) = controller.warnings
    message = f"{path}:10:12: the algorithm of a key is unknown; it is ignored"
    assert warning.message == message


def test_a_key_of_a_file_and_of_the_corefile_is_refused(tmp_path):
    path = tmp_path / "keys.conf"
    path.write_bytes(key_file(("foo", f'secret "{SECRET}";')))
    message = refusal(block(f"secrets {path}", f"secret foo {OTHER}")).message
    assert message == "key 'foo.' redefined"


def test_a_file_without_keys_has_a_warning(tmp_path):
    path = tmp_path / "keys.conf"
    path.write_bytes(b"")
    (warning,) = set_up(block(f"secrets {path}")).warnings
    assert warning.message == f"the file {str(path)!r} has no keys"


def test_a_directive_without_keys_has_a_warning():
    (warning,) = set_up("tsig {\n require AXFR\n}").warnings
    assert warning.message == "tsig without a key verifies no signature"
    assert "secret NAME KEY [ALGORITHM]" in warning.hint


FAULTS = {
    "no name": (b"key {", "1:1: expected the name of a key"),
    "no key": (b'foo "key" {', "1:1: a statement that is not a key: expected key NAME {"),
    "twice": (
        key_file(("foo", f'secret "{SECRET}";'), ("foo", f'secret "{OTHER}";')),
        "6:1: this key is defined twice in the file",
    ),
    "unknown option": (
        b'key "foo" {\n\tschmalgorithm hmac-sha256;',
        "2:2: a key has only algorithm and secret",
    ),
    "no secret": (b'key "foo" {\n\tsecret', "2:2: expected the value of secret"),
    "an empty secret": (b'key "foo" {\n\tsecret ;', "2:2: expected the value of secret"),
    "without a secret": (b'key "foo" {\n};', "1:1: this key has no secret"),
    # Our own.
    "not closed": (
        f'key "foo" {{\nsecret "{SECRET}";'.encode(),
        "1:1: the braces of this key are not closed",
    ),
    "no brace": (b'key "foo" secret', "1:5: expected { after the name of a key"),
    "quote": (b'key "foo', "1:5: a quote is not closed"),
    "not base64": (key_file(("foo", 'secret "-";')), "1:5: the secret of a key is not base64"),
    "bad name": (
        key_file(("a..b", f'secret "{SECRET}";')),
        "1:5: the name of a key is not a domain name",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_file_with_a_fault_is_refused(case, tmp_path):
    """plugin/tsig/setup_test.go: TestParseKeyFileErrors."""
    content, message = FAULTS[case]
    path = tmp_path / "keys.conf"
    path.write_bytes(content)
    diagnostic = refusal(block(f"secrets {path}"))
    assert diagnostic.message == f"{path}:{message}"
    assert diagnostic.token.text == str(path)


WORDS = st.sampled_from(["key", '"a"', "b", "{", "}", ";", "secret", f'"{SECRET}"', "algorithm"])


@settings(deadline=None)
@given(st.one_of(st.lists(WORDS).map(lambda it: " ".join(it).encode()), st.binary()))
def test_any_file_is_read_or_refused(content):
    keys: list[Key] = []
    problem = ""
    try:
        keys, _ = read_file(content)
    except FileError as error:
        problem = str(error)
    assert SECRET not in problem
    assert all(key.secret for key in keys)


def test_all_mistakes_are_reported():
    with pytest.raises(CorefileError) as raised:
        set_up(block("require x", "require_opcode y", "blah"))
    assert len(raised.value.diagnostics) == 3
