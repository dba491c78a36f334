"""The queries of a process in figures: counts, latencies, the most frequent clients and names.

In reading order: `sampler` selects the queries to look at, `space_saving` counts the most frequent
items of a stream in fixed memory, `top` has the sketches of the last minutes, `latency` the
histogram, `history` the figures of the last hour, and `traffic` connects them to the listeners.
`watchers` passes queries to `corepy tail`, whose command is in `tail`; `reloads` has the outcome of
reloads. `figures`, `server_status` and `plugin_status` make the documents of the commands `stats`
and `status`.
"""
