"""`corepy top`: a screen that shows a running server's traffic, and refreshes.

`top_command` has the flags, `top_session` runs the screen: it takes documents from `stats_poller`,
which asks the server in a thread (`top_exchange`), and keys from `terminal`. `top_figures` computes
rates from two documents, `overview` and `lists` turn them into lines, with the columns of
`screen_table` and the formats of `numbers_shown`, and `glyphs` draws them.
"""
