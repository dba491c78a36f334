"""/debug/pprof of the real command: CPU profiles, several processes, and the end of the process."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

from corepy.testing import Load, free_port, run_command
from corepy.testing.command import wait_until
from corepy.testing.listening import children, is_whole
from corepy.testing.profiles import decode

TEXT = """\
. {{
    bind 127.0.0.1
    multisocket 2
    pprof 127.0.0.1:{port} {{
        block
    }}
    whoami
}}
"""


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("GET", f"/debug/pprof/{path}")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


PROCESSES = 2


def processes_of(profile):
    """The processes that have samples."""
    return {text for _, _, labels in profile.samples for key, text in labels if key == "process"}


def test_profiles_of_a_server_under_load():
    port = free_port()
    with run_command(TEXT.format(port=port)) as command, ThreadPoolExecutor(2) as pool:
        pid, address = command.process.pid, command.address
        wait_until(lambda: is_whole(pid, address[1], PROCESSES), 60)
        (follower,) = children(pid)
        both = {str(pid), str(follower)}
        comment = f"processes {pid}, {follower}"
        functions, processes = set(), set()
        with Load(address, rate=200):
            for _ in range(100):  # once, unless this machine is so busy that they get no CPU
                status, body = get(port, "profile?seconds=1")
                assert status == 200, body
                profile = decode(body)
                functions |= {frame[0] for stack, _, _ in profile.samples for frame in stack}
                processes |= processes_of(profile)
                loop = "asyncio.base_events.BaseEventLoop._run_once"
                if loop in functions and processes == both:
                    break
            _, timeline = get(port, "trace?seconds=0.2")
        assert profile.types == [("samples", "count"), ("cpu", "nanoseconds")]
        assert profile.duration > 0.9e9
        assert loop in functions
        assert processes == both
        assert profile.comments == [comment]
        lines = json.loads(timeline)["profiles"]
        assert {it["name"].partition(":")[0] for it in lines} == {f"process {it}" for it in both}
        assert all(abs(sum(it["weights"]) - it["endValue"]) <= 1 for it in lines)
        assert f"process {pid} and 1 more".encode() in get(port, "")[1]

        for name in ("goroutine", "threadcreate", "heap?seconds=0.1"):
            profile = decode(get(port, name)[1])
            assert processes_of(profile) == both
            assert profile.comments[-1] == comment
        listed = get(port, "goroutine?debug=2")[1].decode()
        assert [it for it in listed.splitlines() if it[:2] == "# "] == [
            f"# process {pid}", f"# process {follower}",
        ]  # fmt: skip
        numbers = re.findall(r"(?m)^goroutine (\d+) ", listed)
        assert numbers == [str(it) for it in range(1, len(numbers) + 1)]

        answer = pool.submit(get, port, "profile?seconds=300")
        command.wait_for("profile: measuring for 300 s", times=PROCESSES)
        os.kill(follower, signal.SIGKILL)
        wait_until(lambda: follower not in children(pid), 60)
        wait_until(lambda: is_whole(pid, address[1], PROCESSES), 60)
        (new,) = children(pid)
        wait_until(lambda: f"process {pid} and 1 more".encode() in get(port, "")[1], 60)
        assert get(port, "heap")[0] == 409
        assert command.stop(signal.SIGTERM) == 0
        with contextlib.suppress(http.client.RemoteDisconnected):  # on a busy machine
            status, body = answer.result()  # what was measured until then
            assert status == 200
            profile = decode(body)
            assert profile.duration < 300e9
            assert profile.comments == [
                f"process {pid}", f"process {follower} is missing: the other process has ended",
            ]  # fmt: skip
            assert str(new) != str(follower)


def test_a_client_that_leaves_ends_the_measurement_of_all_processes():
    port = free_port()
    with run_command(TEXT.format(port=port)) as command:
        pid, address = command.process.pid, command.address
        wait_until(lambda: is_whole(pid, address[1], PROCESSES), 60)
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET /debug/pprof/heap?seconds=300 HTTP/1.1\r\nHost: h\r\n\r\n")
        command.wait_for("heap: measuring for 300 s", times=PROCESSES)
        client.close()
        wait_until(lambda: get(port, "heap?seconds=0.01")[0] == 200, 60)

        def is_whole_again():
            """Whether the follower's measurement has ended, too."""
            profile = decode(get(port, "heap?seconds=0.01")[1])
            return len(processes_of(profile)) == PROCESSES

        wait_until(is_whole_again, 60)
