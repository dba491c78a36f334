"""More than a hundred named behaviours of upstreams, as observed in the field.

    with Upstream("drops-edns") as upstream: ...          # see `corepy.testing.Upstream`
    upstream.behave("servfail")                           # switches to another behaviour

    with Fleet() as fleet:                                # many, each with its own address
        first, second = fleet.add("late"), fleet.add("tcp-is-silent")

`BEHAVIOURS` maps names to behaviours; `behaviour` adds your own:

    @behaviour
    def answers_backwards(asked: Asked) -> Iterator[Act]:
        yield asked.good()[::-1]

A behaviour is called with each query (`Asked`) and yields the acts that follow: messages, pauses,
and ends of connections.
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
