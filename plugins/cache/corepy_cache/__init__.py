"""The *cache* plugin: stores replies and answers repeated questions from them; see README.md.

`setup` parses the directive into `settings`. `handler` is the handler in the chain. `entry` is one
cached reply, `entry_table` a bounded table of them. `classify` decides whether a reply may be
cached and for how long. `refresh` renews entries, and `budget` bounds the memory of the whole
process.
"""

from corepy_cache.setup import setup as setup

api_version = 1
