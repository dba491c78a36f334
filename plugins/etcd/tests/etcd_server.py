"""Debian's etcd, as a peer in tests."""

import base64
import http.client
import json
import ssl
import subprocess
import time
from contextlib import contextmanager, suppress

from corepy.testing.upstream import free_port

MAKE_CERTIFICATE = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
    *("-days", "9", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=etcd"),
    *("-addext", "subjectAltName=IP:127.0.0.1"),
)


def encoded(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


class EtcdServer:
    """One member; it can be stopped and started again with the same data."""

    def __init__(self, folder, *, secure=False):
        """Demand client certificates with `secure`; `folder` has one certificate for both sides."""
        self._folder = folder
        self._secure = secure
        if secure:
            subprocess.run([*MAKE_CERTIFICATE], cwd=folder, check=True, capture_output=True)
        self.port, self._peer = free_port(), free_port()
        self._process = None
        self.token = None

    @property
    def url(self):
        return f"http{'s' if self._secure else ''}://127.0.0.1:{self.port}"

    def start(self):
        client, peer = self.url, f"http://127.0.0.1:{self._peer}"
        command = [
            *("etcd", "--data-dir", self._folder / "data", "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}", "--logger", "zap", "--log-level", "error"),
        ]
        if self._secure:
            command += ["--cert-file", "cert.pem", "--key-file", "key.pem"]
            command += ["--client-cert-auth", "--trusted-ca-file", "cert.pem"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
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

    def _connection(self):
        if not self._secure:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        context = ssl.create_default_context(cafile=self._folder / "cert.pem")
        context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)

    def call(self, method, body):
        """Send a request to the gateway."""
        connection = self._connection()
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
def etcd_server(folder, *, secure=False):
    """Run an etcd until the end of the `with` block."""
    server = EtcdServer(folder, secure=secure)
    try:
        server.start()
        yield server
    finally:
        server.stop()
