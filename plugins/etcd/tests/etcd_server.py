"""Debian's etcd, as a peer in tests."""

import base64
import http.client
import json
import subprocess
import time
from contextlib import contextmanager, suppress

from corepy.testing.upstream import free_port


def encoded(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


class EtcdServer:
    """One member; it can be stopped and started again with the same data."""

    def __init__(self, folder):
        self._folder = folder
        self.port, self._peer = free_port(), free_port()
        self._process = None
        self.token = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        client, peer = self.url, f"http://127.0.0.1:{self._peer}"
        command = [
            *("etcd", "--data-dir", self._folder / "data", "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}", "--logger", "zap", "--log-level", "error"),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        while True:
            with suppress(OSError, http.client.HTTPException, AssertionError):
                self.call("maintenance/status", {})
                return
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.01)

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def call(self, method, body):
        """Send a request to the gateway."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": self.token} if self.token else {}
        try:
            connection.request("POST", f"/v3/{method}", json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        assert response.status == 200, content
        return json.loads(content)

    def put(self, key, value, lease=0):
        value = json.dumps(value) if isinstance(value, dict) else value
        self.call("kv/put", {"key": encoded(key), "value": encoded(value), "lease": str(lease)})

    def delete(self, key):
        self.call("kv/deleterange", {"key": encoded(key)})

    def compact(self):
        """Forget the history; return the revision."""
        revision = self.call("kv/range", {"key": encoded("x")})["header"]["revision"]
        self.call("kv/compaction", {"revision": revision, "physical": True})
        return int(revision)


@contextmanager
def etcd_server(folder):
    """Run an etcd until the end of the `with` block."""
    server = EtcdServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
