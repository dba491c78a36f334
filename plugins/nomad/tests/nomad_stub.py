"""A stand-in for Nomad's agent: the endpoints that the plugin uses, over real sockets.

The shapes of responses and errors are those of Nomad 1.10 (api-docs/services, nomad/rpc.go,
command/agent/http.go).
"""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from corepy.testing import free_port

Response = tuple[int, dict[str, str], bytes]

DENIED: Response = 403, {}, b"Permission denied"
UNKNOWN_TOKEN: Response = 403, {}, b"ACL token not found"


def instance(address, port=8080, name="web", namespace="default", **more):
    """An instance as Nomad describes it."""
    return {
        "Address": address,
        "AllocID": "177160af-26f6-619f-9c9f-5e46d1104395",
        "CreateIndex": 14,
        "Datacenter": "dc1",
        "ID": f"_nomad-task-177160af-26f6-619f-9c9f-5e46d1104395-{name}-{address}-{port}",
        "JobID": "example",
        "ModifyIndex": 24,
        "Namespace": namespace,
        "NodeID": "7406e90b-de16-d118-80fe-60d0f2730cb3",
        "Port": port,
        "ServiceName": name,
        "Tags": ["db", "cache"],
        **more,
    }


class NomadStub:
    """Serves until the end of a `with` block.

    `fault` may be set to a function that gets the path and the parameters of a request and returns
    the response (status, headers, body) in place of the usual one, None for the usual one, or b""
    to close the connection.
    """

    def __init__(self, *, context=None, path=None, port=0):
        self.services = {}
        self.index = 10
        self.token = None
        """The token that requests need, if any, and the namespaces that it permits."""
        self.permitted = None
        self.has_index = True
        self.fault = lambda path, parameters: None
        self.requests = []
        self.headers = []
        self.hostname = "127.0.0.1"
        self._changed = threading.Condition()
        self._is_closed = False
        self._context = context
        self._path = path
        self.port = port
        self._connections = set()

    @property
    def url(self):
        """The address for the Corefile."""
        if self._path is not None:
            return f"unix://{self._path}"
        return f"{'https' if self._context else 'http'}://{self.hostname}:{self.port}"

    def put(self, name, *addresses, namespace="default", port=8080):
        """Register a service, with an instance for each address or (address, port)."""
        pairs = (it if isinstance(it, tuple) else (it, port) for it in addresses)
        found = [instance(address, own, name, namespace) for address, own in pairs]
        with self.change():
            self.services.setdefault(namespace, {})[name] = found

    def remove(self, name, namespace="default"):
        """Remove a service."""
        with self.change():
            del self.services[namespace][name]

    @contextlib.contextmanager
    def change(self, step=1):
        """Change something, with a new index."""
        with self._changed:
            yield
            self.index += step
            self._changed.notify_all()

    def asked(self, beginning="/v1/service/"):
        """The paths of requests that begin so, in the order of arrival."""
        return [path for path, _ in list(self.requests) if path.startswith(beginning)]

    # -- the endpoints

    def answer(self, path, parameters, headers):
        """The response to a request."""
        self.requests.append((path, parameters))
        self.headers.append(headers)
        found = self.fault(path, parameters)
        if found is not None:
            return found
        namespace = parameters.get("namespace", "default")
        token = headers.get("x-nomad-token")
        if self.token is not None and token != self.token:
            return UNKNOWN_TOKEN if token else DENIED
        if path == "/v1/agent/self":
            return (200, {}, b'{"config":{},"member":{},"stats":{}}') if not self.token else DENIED
        if self.permitted is not None and namespace not in self.permitted:
            return DENIED
        self._wait(parameters)
        with self._changed:
            return self._answer_services(path, namespace)

    def _wait(self, parameters):
        """Wait for a change behind an index."""
        asked = int(parameters.get("index", "0"))
        seconds = float(parameters.get("wait", "300000ms").removesuffix("ms")) / 1000
        with self._changed:
            self._changed.wait_for(
                lambda: not asked or self.index > asked or self._is_closed, seconds
            )

    def _answer_services(self, path, namespace):
        services = self.services.get(namespace, {})
        if path == "/v1/services":
            names = [{"ServiceName": name, "Tags": ["cache", "db"]} for name in services]
            document = [{"Namespace": namespace, "Services": names}] if names else []
        elif path.startswith("/v1/service/"):
            document = services.get(unquote(path.removeprefix("/v1/service/")), [])
        else:
            return 404, {}, b"Invalid URI"
        headers = {"X-Nomad-Index": str(self.index)} if self.has_index else {}
        more = {"X-Nomad-Knownleader": "true", "X-Nomad-Lastcontact": "0"}
        return 200, headers | more, json.dumps(document).encode()

    # -- the server

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Begin to serve, at the port of the last time."""
        self._is_closed = False
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one segment for each response

            def setup(self):
                super().setup()
                stub._connections.add(self.connection)

            def address_string(self):
                return "client"

            def log_message(self, *_):
                pass

            def do_GET(self):
                parts = urlsplit(self.path)
                parameters = {k: v[0] for k, v in parse_qs(parts.query).items()}
                headers = {k.lower(): v for k, v in self.headers.items()}
                found = stub.answer(parts.path, parameters, headers)
                if found == b"" or stub._is_closed:
                    self.close_connection = True
                    return
                status, fields, body = found
                self.send_response_only(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                if "Content-Length" not in fields:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            address_family = socket.AF_INET if self._path is None else socket.AF_UNIX

            def server_bind(self):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.bind(self.server_address)
                self.server_name, self.server_port = "stub", 0

            def get_request(self):
                sock, address = super().get_request()
                if stub._context is not None:
                    sock = stub._context.wrap_socket(sock, server_side=True)
                return sock, address or ("client", 0)

            def handle_error(self, *_):
                pass

        # A client that connects again and again to a port of the ephemeral range reaches itself.
        address = self._path or ("127.0.0.1", self.port or free_port())
        self._server = Server(address, Handler)
        if self._path is None:
            self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self):
        """Close the listener and all connections."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()
