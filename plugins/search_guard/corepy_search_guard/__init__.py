"""search_guard: answers queries that search lists produce for external names.

The modules in reading order: `setup` parses the directive. `handler` is the handler in the chain.
`domains` finds the search domain in a name, and the names that could prove it absent. `proof` is
such a proof, an NXDOMAIN. `prover` obtains proofs, with `labels` and `trust` as its conditions;
`covered` is what it remembers. `samples` are the names that are passed on in spite of a proof.
"""

from corepy_search_guard.setup import setup as setup

api_version = 1
