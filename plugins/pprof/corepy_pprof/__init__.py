"""pprof: profiles of the running server over HTTP, in the format of Go's pprof."""

from corepy_pprof.setup import setup as setup

api_version = 1
