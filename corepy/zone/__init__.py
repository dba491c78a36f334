"""Zones: the store that *file*, *auto* and *secondary* answer from, and files of records.

`ZoneBuilder` collects and checks records and builds a `Zone`, one immutable version of a zone.
`Lookup` finds the records of a reply in it. A handler subclasses `ZoneHandler` and keeps its zones
in `ServedZones`, where other plugins of the server block find them and subscribe to new versions.

`canonical` < `rrset` < `denial` < `zone` < `builder`, `lookup` < `replies` < `served` < `handler`:
each module imports only modules to its left.
"""

from corepy.zone.changes import Changes as Changes
from corepy.zone.changes import changes_between as changes_between
from corepy.zone.master_file import MasterFileError as MasterFileError
from corepy.zone.master_file import origin_from_text as origin_from_text
from corepy.zone.master_file import read_zone as read_zone
from corepy.zone.serial import is_newer as is_newer
from corepy.zone.served import ServedZone as ServedZone
from corepy.zone.served import ServedZones as ServedZones
from corepy.zone.served import ZoneSource as ZoneSource
from corepy.zone.served import ZoneSubscriber as ZoneSubscriber
from corepy.zone.served import served_zones as served_zones
from corepy.zone.zone import SOA as SOA
from corepy.zone.zone import Zone as Zone
from corepy.zone.zone_builder import ZoneBuilder as ZoneBuilder
from corepy.zone.zone_errors import OutOfZone as OutOfZone
from corepy.zone.zone_errors import RecordRefused as RecordRefused
from corepy.zone.zone_errors import ZoneError as ZoneError
from corepy.zone.zone_file import ZoneFile as ZoneFile
from corepy.zone.zone_file import changed_files as changed_files
from corepy.zone.zone_file import forget as forget
from corepy.zone.zone_handler import WILDCARD_LABEL as WILDCARD_LABEL
from corepy.zone.zone_handler import ZoneHandler as ZoneHandler
from corepy.zone.zone_lookup import Lookup as Lookup
from corepy.zone.zone_lookup import Match as Match
