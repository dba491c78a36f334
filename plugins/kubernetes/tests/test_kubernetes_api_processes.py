"""Whole servers: several processes, a reload, and a start while the API is away."""

import signal

from corepy.testing import helper_module, run_command
from corepy.testing.command import wait_until

fake = helper_module(__file__, "kubernetes_api_server")

COREFILE = """\
.:0 {{
    bind 127.0.0.1
    multisocket 2
    kubernetes cluster.local {{
        endpoint {url}
        keep {path}
        ttl {ttl}
    }}
}}
"""


def addresses_at(server, name="web"):
    """The answers of several clients, of which each process gets some."""
    replies = [server.ask(f"{name}.default.svc.cluster.local") for _ in range(8)]
    return {str(record.rdata) for reply in replies for record in reply.rr}


def test_processes_share_a_watch_over_a_reload_and_a_snapshot_replaces_the_api(tmp_path):
    with fake.ThreadedAPI() as api:
        api.put("namespaces", fake.namespace("default"))
        api.put("services", fake.service("web", addresses=["10.0.0.1"]))
        values = {"url": api.url, "path": tmp_path / "kept"}
        with run_command(COREFILE.format(**values, ttl=5)) as server:
            wait_until(lambda: addresses_at(server) == {"10.0.0.1"})
            assert api.count_watches("services") == 1
            api.put("services", fake.service("web", addresses=["10.0.0.2"]))
            wait_until(lambda: addresses_at(server) == {"10.0.0.2"})
            api.watched("services", "namespaces", "endpointslices")
            before = len(api.requests)
            server.conf.write_text(COREFILE.format(**values, ttl=7))
            server.send_signal(signal.SIGUSR1)
            server.wait_for("Reloading complete")
            api.put("services", fake.service("web", addresses=["10.0.0.3"]))
            wait_until(lambda: addresses_at(server) == {"10.0.0.3"})
            assert server.ask("web.default.svc.cluster.local").rr[0].ttl == 7
            assert len(api.requests) == before
            assert server.stop() == 0
    with run_command(COREFILE.format(**values, ttl=5)) as server:
        wait_until(lambda: addresses_at(server) == {"10.0.0.3"})
        assert "continues with 2 objects from" in server.output
        assert server.stop() == 0
