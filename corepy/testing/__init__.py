"""Test helpers for this project and for third-party plugins.

    with serve(". { whoami }") as server:          # a real server in this process, on a free port
        reply = server.ask("example.org", "A")     # a dnslib.DNSRecord

* `serve`: runs a server from Corefile text in its own thread; zones without a port get a free one.
  `server.ask` sends a query, `server.drops` returns whether the server drops a query.
* `serve_file`: runs a server from a Corefile on disk in the test's event loop.
* `run_command`: runs the real `corepy` command as a process; `run_program`: the same for another
  program.
* `ask`, `exchange`: a DNS client for UDP and TCP; `http_get`: a client for HTTP endpoints.
* `reply_of`: builds a reply from records in zone-file form.
* `MountedConfigMap`: a folder that changes as a mounted ConfigMap does.
* `Load`: sends queries at a steady rate and tracks each one until it is answered or lost.
* `Upstream`: a name server whose replies, drops and delays are defined by a function of the test;
  `corepy.testing.tls` has a server for TLS. `Upstream("drops-edns")` uses one of the behaviours in
  `corepy.testing.behaviours`; `Fleet` runs many upstreams at once.
* `corepy.testing.client_kinds`: kinds of clients. `corepy.testing.crossing` crosses them with
  behaviours; `corepy.testing.outcomes` compares the outcomes with a table.
* `knot`: a real authoritative name server; `corepy.testing.name_servers` runs knotd, nsd and named
  with a configuration of the test.
* `controller_for`, `set_up`, `refusal`: run a directive's `setup` on Corefile text, without a
  server.
* `inline`, `with_handlers`: plugins defined in the test, for `serve(..., plugins=...)`; `install`:
  such a plugin for `run_command`.
* `helper_module`: a module that several test files share. `until`: waits in an event loop until a
  condition is true.
* `corepy.testing.browser` drives Chromium; `corepy.testing.pseudo_terminal` runs a program in a
  terminal (it needs pyte).
* `corepy.testing.process_groups`: the processes of a server with *multisocket*, in one process.
* `Recorder`, `run_chain`, `link`, `make_request`: test one handler at a time, without sockets.
"""

from corepy.testing.chain import Recorder as Recorder
from corepy.testing.chain import controller_for as controller_for
from corepy.testing.chain import link as link
from corepy.testing.chain import make_request as make_request
from corepy.testing.chain import refusal as refusal
from corepy.testing.chain import run_chain as run_chain
from corepy.testing.chain import set_up as set_up
from corepy.testing.client import ask as ask
from corepy.testing.client import exchange as exchange
from corepy.testing.client import http_get as http_get
from corepy.testing.client import query as query
from corepy.testing.client import reply_of as reply_of
from corepy.testing.command import Command as Command
from corepy.testing.command import run_command as run_command
from corepy.testing.command import run_program as run_program
from corepy.testing.fleet import Fleet as Fleet
from corepy.testing.helper_module import helper_module as helper_module
from corepy.testing.inline import inline as inline
from corepy.testing.inline import with_handlers as with_handlers
from corepy.testing.inprocess import TestServer as TestServer
from corepy.testing.inprocess import serve as serve
from corepy.testing.inprocess import serve_file as serve_file
from corepy.testing.install import install as install
from corepy.testing.knot import knot as knot
from corepy.testing.load import Load as Load
from corepy.testing.mounted import MountedConfigMap as MountedConfigMap
from corepy.testing.polling import until as until
from corepy.testing.upstream import Upstream as Upstream
from corepy.testing.upstream import free_port as free_port
