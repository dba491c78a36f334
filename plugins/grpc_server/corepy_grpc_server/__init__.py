"""grpc_server: limits the clients of grpc:// listeners."""

from corepy_grpc_server.setup import setup as setup

api_version = 1
