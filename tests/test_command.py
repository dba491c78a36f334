"""The command as a user meets it: flags, output, exit codes, signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from corepy.testing import helper_module, install, run_command
from corepy.testing.command import wait_until

WHOAMI = ".:0 {\n    bind 127.0.0.1\n    whoami\n}\n"
COREPY = [sys.executable, "-m", "corepy"]
PATIENCE = 300.0
"""Seconds that only a process which hangs takes."""

run_here = helper_module(__file__, "command_here").run_here


def corepy(*flags, conf=None, tmp_path=None, **options):
    if conf is not None:
        (tmp_path / "Corefile").write_text(conf)
        options.setdefault("cwd", tmp_path)
    return subprocess.run(
        [*COREPY, *flags], capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )


def test_version():
    done = corepy("-version")
    name, system = done.stdout.splitlines()
    assert name.startswith("corepy-")
    assert re.fullmatch(
        r"linux/\w+, CPython 3\.\S+, (pure|compiled), (unknown|[0-9a-f]{7,}(-dirty)?(-editable)?)",
        system,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("flag", ["--version", "-version=true", "--version=1"])
def test_spellings_of_a_flag(flag):
    done = run_here(flag)
    assert (done.returncode, done.stdout.startswith("corepy-")) == (0, True)


def test_plugins_are_listed_without_importing_them():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "corepy", "-plugins"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    names = done.stdout.splitlines()
    assert {"bind", "cache", "forward", "whoami"} <= set(names)  # the names only, as CoreDNS
    assert names == sorted(names)
    imported = [line.split("|")[-1].strip() for line in done.stderr.splitlines()]
    assert not [
        name for name in imported if name.startswith(("corepy_", "lark", "dnslib", "asyncio"))
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-nonsense"], "unrecognized arguments: -nonsense"),
        (["extra"], "extra command line arguments: 'extra'"),
        (["check"], "unknown command 'check', did you mean corepy -check?"),
        (["chekc"], "unknown command 'chekc', did you mean corepy -check?"),
        (["version"], "unknown command 'version', did you mean corepy -version?"),
        (["serve"], "unknown command 'serve'; to start the server, run corepy -conf FILE"),
        (
            ["run", "-conf", "x"],
            "unknown command 'run'; to start the server, run corepy -conf FILE",
        ),
        (["explian"], "unknown command 'explian', did you mean corepy explain?"),
        (["-config", "x"], "unrecognized arguments: -config, did you mean -conf?"),
        (["--chek"], "unrecognized arguments: --chek, did you mean -check?"),
        (["fmt", "-chek"], "unrecognized arguments: -chek, did you mean -check?"),
        (["cache"], "corepy cache: missing command: expected one of stats, lookup, dump, purge"),
        (["cache", "purg"], "unknown command 'purg': did you mean 'purge'?"),
        (["nodecache", "plan", "-cnof=x"], "unrecognized arguments: -cnof=x, did you mean -conf?"),
        (["-conf"], "expected one argument"),
        (["-quiet=perhaps"], "'perhaps' is neither true nor false"),
        (["-plugin"], "unrecognized arguments: -plugin"),
        (["-p", "70000"], "'70000' is not a port"),
        (["-dns.port", "x"], "'x' is not a port"),
        (["-order"], "corepy: -order needs -plugins"),
        (["-json"], "corepy: -json needs -check"),
        (["-fallback", "127.0.0.1"], "corepy: -fallback needs -supervise"),
        (
            ["-check", __file__],
            f"unrecognized arguments: {__file__}, did you mean -conf {__file__}",
        ),
        (["-check", "/nowhere"], "unrecognized arguments: /nowhere; see corepy -help"),
        (["explain", "a", "A", "::1", __file__], f"did you mean -conf {__file__}?"),
    ],
)
def test_wrong_usage(flags, words):
    done = run_here(*flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_wrong_usage_ends_the_process():
    done = corepy("-nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "corepy: unrecognized arguments: -nonsense; see corepy -help\n"


@pytest.mark.parametrize(
    ("flags", "unbuffered"),
    [
        *(("-version", unbuffered) for unbuffered in ("", "1")),  # the flush fails, or the write
        *(
            (flags, "")
            for flags in ("-plugins", "-plugins -order", "-completion bash", "-check", "explain a")
        ),
    ],
)
def test_output_that_cannot_be_written(flags, unbuffered, tmp_path):
    (tmp_path / "Corefile").write_text(WHOAMI)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COREPY, *flags.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 1
    assert done.stderr == "corepy: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("flags", ["-plugins -order", "-completion bash", "explain a"])
def test_output_that_is_not_read(flags, tmp_path):
    (tmp_path / "Corefile").write_text(WHOAMI)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            [*COREPY, *flags.split()],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
            cwd=tmp_path,
        )
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("spelling", ["-h", "-help", "--help"])
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cache", ["{stats,lookup,dump,purge}", "remove a name, or all names"]),
        ("cache lookup", ["NAME", "TYPE", "-json"]),
        ("cache dump", ["ZONE", "-json"]),
        ("cache purge", ["NAME", "-zone ZONE"]),
        ("nodecache", ["{status,plan,teardown}", "remove all interfaces"]),
        ("nodecache status", ["-conf FILE", "-json", "-p PORT"]),
        ("nodecache plan", ["-conf FILE", "-json", "-p PORT"]),
        ("nodecache teardown", ["-force"]),
        ("status", ["-json", "exit code: 0 if all is well"]),
        ("tail", ["-name ZONE", "-client CIDR", "-slow DURATION", "-json"]),
        ("explain", ["NAME", "TYPE", "CLIENT", "-dry"]),
        ("fmt", ["FILE", "-check"]),
        ("new-plugin", ["FOLDER"]),
        ("", ["-conf FILE", "-check"]),
    ],
)
def test_help_of_every_command(command, words, spelling):
    done = run_here(*command.split(), spelling)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: corepy")
    assert [word for word in words if word not in done.stdout] == []
    for name in ("NAME", "TYPE", "CLIENT", "FILE", "FOLDER"):
        lines = [line for line in done.stdout.splitlines() if line.split()[:1] == [name]]
        assert len(lines) <= 1


def test_standard_input_is_not_a_dash():
    done = corepy("-check", "-conf", "-", input=WHOAMI)
    assert done.returncode == 1
    assert done.stderr == (
        "corepy: cannot read the Corefile -: No such file or directory; to read standard input, use -conf stdin\n"
    )


def test_help_names_every_flag():
    done = corepy("-help")
    text = done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    for flag in (
        "-conf",
        "-dns.port",
        "-p",
        "-plugins",
        "-version",
        "-quiet",
        "-pidfile",
        "-check",
        "-json",
    ):
        assert f" {flag}" in text


@pytest.mark.parametrize("flags", [[], ["-check"]])
def test_a_missing_file(flags):
    done = corepy("-conf", "/nonexistent/Corefile", *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "corepy: cannot read the Corefile /nonexistent/Corefile: No such file or directory"
    ]


@pytest.mark.parametrize(
    "spelling",
    [["-conf", "Corefile"], ["--conf=Corefile"], ["-conf=Corefile"], [], ["-json=false", "-p=53"]],
)
def test_check_of_a_valid_file(tmp_path, spelling):
    (tmp_path / "Corefile").write_text(WHOAMI)
    done = run_here("-check", *spelling, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Corefile is valid\n", "")


def test_check_of_mistakes(tmp_path):
    done = corepy("-check", conf=". {\n    whoam\n}\n", tmp_path=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Corefile:2:5: unknown directive 'whoam'\n" in done.stderr
    assert "did you mean 'whoami'?" in done.stderr


def test_check_as_json(tmp_path):
    conf = tmp_path / "Corefile"
    conf.write_text(". {\n    whoam\n}\n")
    done = run_here("-check", "-json", "-conf", str(conf))
    result = json.loads(done.stdout)
    assert (done.returncode, result["valid"]) == (1, False)
    assert [(d["line"], d["column"]) for d in result["diagnostics"]] == [(2, 5)]
    conf.write_text(WHOAMI)
    done = run_here("-check", "-json", "-conf", str(conf))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"valid": True, "diagnostics": []})


def test_check_shows_warnings_and_passes(tmp_path):
    (tmp_path / "Corefile").write_text("1053 {\n    whoami\n}\n")
    done = run_here("-check", "-conf", str(tmp_path / "Corefile"))
    assert done.returncode == 0
    assert "warning: '1053' is taken as a zone" in done.stdout


def test_check_reads_standard_input():
    assert corepy("-check", "-conf", "stdin", input=WHOAMI).stdout == "stdin is valid\n"


EVERY_PLUGIN = """
example.org:53 {
    bind lo {
        except ::1
    }
    errors
    log
    cache 30
    forward . 192.0.2.1 192.0.2.2:5353
}
. {
    bind 127.0.0.1
    whoami
}
"""


def test_check_opens_no_socket_and_needs_no_root(tmp_path):
    """Port 53 as nobody, under strace: not one socket of any family."""
    trace = tmp_path / "trace"
    (tmp_path / "Corefile").write_text(EVERY_PLUGIN)
    calls = "socket,bind,connect,socketpair,mount,unshare,setns,kill"
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={calls}", *COREPY, "-check"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [
        line for line in trace.read_text().splitlines() if "(" in line and "= -1 ENO" not in line
    ]


def test_serving_prints_one_line_a_zone_and_stops_gracefully():
    text = "example.org:0 example.net:0 {\n bind 127.0.0.1\n whoami\n}\n"
    with run_command(text) as command:
        port = command.address[1]
        assert command.lines[:2] == [
            f"example.net.:{port} on 127.0.0.1",
            f"example.org.:{port} on 127.0.0.1",
        ]
        assert command.lines[2].startswith("corepy-")
        assert command.stop() == 0
    assert "Shutting down servers then terminating" in command.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_end_the_server(number, tmp_path):
    pidfile = tmp_path / "pid"
    with run_command(WHOAMI, "-pidfile", str(pidfile)) as command:
        wait_until(pidfile.exists)
        assert command.stop(number) == 0
    assert not pidfile.exists()


def test_sigint_while_a_plugin_is_imported(tmp_path):
    """It is no failure of the plugin."""
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    env = install(tmp_path, "hello", code)
    with run_command(".:0 {\n hello\n}\n", env=env, wait=False) as command:
        assert command.process.wait(60) == -signal.SIGINT
    assert command.output == ""


def test_sighup_does_nothing():
    with run_command(WHOAMI) as command:
        command.send_signal(signal.SIGHUP)
        command.send_signal(signal.SIGUSR1)
        command.wait_for("Reloading complete")


def test_quiet(tmp_path):
    pidfile = tmp_path / "pid"
    with run_command(WHOAMI, "-quiet", "-pidfile", str(pidfile), wait=False) as command:
        wait_until(lambda: pidfile.exists() and pidfile.read_text().endswith("\n"))
        assert int(pidfile.read_text()) == command.process.pid
        assert command.stop() == 0
        assert [line for line in command.lines if "INFO" not in line] == []
    assert not pidfile.exists()


def test_reload_by_signal():
    with run_command(WHOAMI) as command:
        conf = command.conf
        conf.write_text(". {\n    whoam\n}\n")
        command.send_signal(signal.SIGUSR1)
        command.wait_for("the new Corefile is not valid")
        command.wait_for("did you mean 'whoami'?")
        assert command.ask("example.org.").header.rcode == 0
        conf.unlink()
        command.send_signal(signal.SIGUSR1)
        command.wait_for("cannot read the Corefile")
        conf.write_text(WHOAMI)
        command.send_signal(signal.SIGUSR1)
        command.wait_for("Reloading complete")
        assert command.ask("example.org.").header.rcode == 0


def test_a_busy_port_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = corepy(conf=WHOAMI.replace(":0", f":{port}"), tmp_path=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"corepy: cannot listen on tcp 127.0.0.1:{port}: another program listens on this"
        " address; stop it, or choose another address (bind) or port"
    ]


def test_a_missing_privilege_is_one_line(tmp_path):
    (tmp_path / "Corefile").write_text(WHOAMI.replace(":0", ":53"))
    tmp_path.chmod(0o755)
    command = [
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]
    folder = os.path.dirname(sys.executable)
    if subprocess.run([*command, "test", "-x", f"{folder}/python"], check=False).returncode:
        # The virtual environment lies below a folder that only root may enter; keep root, drop the capability.
        command = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    done = subprocess.run(
        [*command, *COREPY, "-conf", str(tmp_path / "Corefile")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "HOME": "/"},
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "corepy: cannot listen on udp 127.0.0.1:53: ports below 1024 need root or CAP_NET_BIND_SERVICE;"
        " use another port, such as -dns.port 1053"
    ]


def test_without_a_corefile_whoami_answers(tmp_path):
    with run_command(None, cwd=tmp_path) as command:
        reply = command.ask("example.org.")
        assert reply.header.rcode == 0
        assert len(reply.ar) == 2


def test_corefile_from_standard_input():
    with run_command(None, "-conf", "stdin", stdin=WHOAMI) as command:
        assert command.ask("example.org.").header.rcode == 0
        command.send_signal(signal.SIGUSR1)
        command.wait_for("Reloading complete")


def test_every_line_as_json(tmp_path):
    text = ".:0 {\n    bind 127.0.0.1\n    log\n    errors\n    whoami\n}\n"
    with run_command(text, "-log-format", "json", wait=False) as command:
        command.wait_for('"message": "corepy-')
        command.send_signal(signal.SIGUSR1)
        command.wait_for("Reloading complete")
        command.stop()
        entries = [json.loads(line) for line in command.lines]
    assert {entry["level"] for entry in entries} == {"info"}
    done = corepy("-log-format", "json", conf=". {\n    whoam\n}\n", tmp_path=tmp_path)
    (entry,) = map(json.loads, done.stderr.splitlines())
    assert entry["level"] == "error"
    assert "did you mean 'whoami'?" in entry["message"]
