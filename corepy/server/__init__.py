"""The running server: builds a configuration from a Corefile and answers queries by it.

The package has five wings, in reading order:

* `build`: from a Corefile to a `Generation`, without side effects on the host.
* `listen`: from the bytes of a query to the bytes of its reply.
* `contain`: keeps the failure of a plugin from becoming a failure of the server.
* `workers`: several processes that share the listen addresses (*multisocket*).
* `explain`: follows one question through the server, for `corepy explain`.

The modules beside them connect the wings: `process` is the life cycle of the process, and `server`
has the endpoints and replaces the generation that answers at them.
"""
