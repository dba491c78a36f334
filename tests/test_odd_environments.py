"""The environment variables that a process is given: none of them may keep it from answering."""

import os
import subprocess
import sys

import pytest

from corepy.testing import Upstream, run_command

RECORDS = {"www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"]}

NONE = dict.fromkeys(("PATH", "HOME", "LANG", "LC_ALL", "USER", "TMPDIR", "TZ", "TERM"))

CASES: dict[str, dict[str, str | None]] = {
    "hardly any": {**NONE},
    "no home, no folder for temporary files": {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
    "a locale that is not there": {"LC_ALL": "xx_YY.UTF-8", "LANG": "xx", "LANGUAGE": "xx"},
    "the C locale without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "output in an old encoding": {"PYTHONIOENCODING": "latin-1"},
    "a time zone that is none": {"TZ": "Nowhere/Land"},
    "not UTF-8": {"ODD": os.fsdecode(b"\xff\xfe\x80")},
    "100 KB": {"LARGE": "x" * 100_000},
    # systemd's protocols, left over by something else or wrong
    "NOTIFY_SOCKET of nobody": {"NOTIFY_SOCKET": "/nonexistent/notify"},
    "NOTIFY_SOCKET that is no path": {"NOTIFY_SOCKET": "nonsense"},
    "NOTIFY_SOCKET too long": {"NOTIFY_SOCKET": "/" + "x" * 200},
    "NOTIFY_SOCKET empty": {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": ""},
    "LISTEN_FDS of another process": {"LISTEN_FDS": "3", "LISTEN_PID": "1"},
    "LISTEN_FDS that are no numbers": {"LISTEN_FDS": "many", "LISTEN_PID": "me"},
    "WATCHDOG_USEC that is no number": {"WATCHDOG_USEC": "soon", "NOTIFY_SOCKET": "@nobody"},
    "WATCHDOG_USEC below zero": {"WATCHDOG_USEC": "-1", "NOTIFY_SOCKET": "@nobody"},
    "folders for run-time files that are not there": {
        "RUNTIME_DIRECTORY": "/nonexistent:/other",
        "XDG_RUNTIME_DIR": "/nonexistent",
    },
    "a folder for run-time files that is a file": {"XDG_RUNTIME_DIR": "/etc/passwd"},
    # ours
    "limits that are no numbers": {"COREPY_QUERY_TIMEOUT": "soon", "COREPY_BLOCK_LIMIT": ""},
    "limits that are none": {"COREPY_QUERY_TIMEOUT": "nan", "COREPY_BLOCK_LIMIT": "inf"},
    "limits below zero": {"COREPY_QUERY_TIMEOUT": "-1", "COREPY_BLOCK_LIMIT": "-1e9"},
    "a packet cache of another kind": {"COREPY_PACKET_CACHE": "perhaps"},
    # of the resolver in the C library: names in TO are looked up with it
    "resolver options": {
        "LOCALDOMAIN": "a b c",
        "RES_OPTIONS": "nonsense ndots:99999",
        "HOSTALIASES": "/nonexistent",
    },
    # of TLS: a file for keys that cannot be written, authorities that are not there
    "keys of TLS": {"SSLKEYLOGFILE": "/nonexistent/keys"},
    "no authorities": {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent"},
    "an OpenSSL configuration that is not there": {"OPENSSL_CONF": "/nonexistent"},
    # HTTPS upstreams are asked directly
    "proxies": {"https_proxy": "http://192.0.2.1:1", "HTTPS_PROXY": "nonsense", "ALL_PROXY": "x"},
}


@pytest.mark.parametrize("case", CASES)
def test_answers(case, monkeypatch):
    for name, value in CASES[case].items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with Upstream(RECORDS) as upstream:
        # The second block has a context for TLS; its comment and the log are not ASCII.
        text = (
            f'.:0 {{\nbind 127.0.0.1\nlog . "caf\u00e9 {{name}}"\nerrors\nforward . {upstream.to}\n}}\n'
            "caf\u00e9.test:0 {\nbind 127.0.0.1\nforward . tls://127.0.0.1:1 https://127.0.0.1:1\n}\n"
        )
        with run_command(text) as command:
            for tcp in (False, True):
                assert command.ask("www.example.org", tcp=tcp).rr
            assert command.stop() == 0
    assert "Traceback" not in command.output


def test_keys_of_tls_are_written_nowhere(tmp_path, monkeypatch):
    """ssl.create_default_context would: for whoever sets the variable, but on a whole node."""
    keys = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    program = (
        "from corepy.testing import set_up; set_up('forward . tls://192.0.2.1');"
        "from corepy.plugin.tls_client import system_context; system_context()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert not keys.exists()
