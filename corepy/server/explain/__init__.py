"""Explains one question: how it is routed, and what each plugin of the chain does to it.

`explainer` is the entry. `trace` runs a copy of the chain that records each handler's query and
reply, and `diff` compares two records.
"""
