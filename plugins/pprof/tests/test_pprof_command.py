"""/debug/pprof of the real command: CPU profiles, several processes, and the end of the process."""

import contextlib
import http.client
import json
import signal
from concurrent.futures import ThreadPoolExecutor

from corepy.testing import Load, free_port, run_command
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


def test_profiles_of_a_server_under_load():
    port = free_port()
    with run_command(TEXT.format(port=port)) as command, ThreadPoolExecutor(2) as pool:
        process = f"process {command.process.pid}, the leader of 2; the others are not measured"
        functions = set()
        with Load(command.address, rate=200):
            for _ in range(100):  # once, unless this machine is so busy that the server gets no CPU
                status, body = get(port, "profile?seconds=1")
                assert status == 200, body
                profile = decode(body)
                functions |= {frame[0] for stack, _, _ in profile.samples for frame in stack}
                if "asyncio.base_events.BaseEventLoop._run_once" in functions:
                    break
            _, timeline = get(port, "trace?seconds=0.2")
        assert profile.types == [("samples", "count"), ("cpu", "nanoseconds")]
        assert profile.duration > 0.9e9
        assert "asyncio.base_events.BaseEventLoop._run_once" in functions
        assert profile.comments == [process]
        main = json.loads(timeline)["profiles"][0]
        assert abs(sum(main["weights"]) - main["endValue"]) <= 1
        assert process.encode() in get(port, "")[1]

        answer = pool.submit(get, port, "profile?seconds=300")
        command.wait_for("profile: measuring for 300 s")
        assert command.stop(signal.SIGTERM) == 0
        with contextlib.suppress(http.client.RemoteDisconnected):  # on a busy machine
            status, body = answer.result()  # what was measured until then
            assert status == 200
            assert decode(body).duration < 300e9
