"""The *cache* plugin: keeps replies and answers from them. The manual page is README.md.

`setup` reads the directive into `settings`; `handler` stands in the chain; `entry` is one kept
reply, `store` many of them, `verdict` decides what may be kept and for how long; `refresh` asks
again for what is old; `memory` bounds it all.
"""

from corepy_cache.setup import setup as setup

api_version = 1
