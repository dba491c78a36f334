"""A library of upstreams as the world has them: more than a hundred behaviours, each with a name.

    with Upstream("drops-edns") as upstream: ...          # see `corepy.testing.Upstream`
    upstream.behave("servfail")                           # from now on another one

    with Fleet() as fleet:                                # many, each at an address of its own
        first, second = fleet.add("late"), fleet.add("tcp-is-silent")

`BEHAVIOURS` has all of them by name; `behaviour` adds one of your own:

    @behaviour
    def answers_backwards(asked: Asked) -> Iterator[Act]:
        yield asked.good()[::-1]

A behaviour is asked for each query (`Asked`), and yields what follows on it, act by act: messages,
pauses, ends of connections.
"""

from corepy.testing.behaviours import contents, datagrams, edns, malformed, refusals, streams
from corepy.testing.behaviours.base import ADDRESS as ADDRESS
from corepy.testing.behaviours.base import BEHAVIOURS as BEHAVIOURS
from corepy.testing.behaviours.base import WITHOUT_TCP as WITHOUT_TCP
from corepy.testing.behaviours.base import Act as Act
from corepy.testing.behaviours.base import Asked as Asked
from corepy.testing.behaviours.base import Behaviour as Behaviour
from corepy.testing.behaviours.base import Elsewhere as Elsewhere
from corepy.testing.behaviours.base import End as End
from corepy.testing.behaviours.base import Pause as Pause
from corepy.testing.behaviours.base import Raw as Raw
from corepy.testing.behaviours.base import behaviour as behaviour
from corepy.testing.behaviours.base import group as group

__all__ = [
    "ADDRESS", "BEHAVIOURS", "WITHOUT_TCP", "Act", "Asked", "Behaviour", "Elsewhere", "End",
    "Pause", "Raw", "behaviour", "contents", "datagrams", "edns", "group", "malformed", "refusals",
    "streams",
]  # fmt: skip
