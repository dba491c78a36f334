r"""Records in presentation format, the text of zone files: text to wire and wire to text.

The one record codec of the project. `table` describes each record type as a sequence of named
fields, and `codec` reads and writes rdata by that table. `lines` reads whole records, `words`
splits text into words. Every type can also be read and written in the generic form of RFC 3597
section 5, `\# LENGTH HEX`, and types without an entry in the table have no other form.

Three rules hold. Reading is complete: a missing, surplus or malformed field raises `RecordError`,
which names the field and knows the word. Writing never fails: rdata that its fields cannot express
is written in the generic form. What was written can be read again and gives the same bytes; only
rdata that is malformed for its type is refused.

Pure functions without I/O. Nothing in the server's hot path imports this package.
"""

from corepy.dns.presentation.codec import rdata_from_text as rdata_from_text
from corepy.dns.presentation.codec import rdata_to_text as rdata_to_text
from corepy.dns.presentation.errors import RecordError as RecordError
from corepy.dns.presentation.lines import Record as Record
from corepy.dns.presentation.lines import read_entry as read_entry
from corepy.dns.presentation.lines import read_record as read_record
from corepy.dns.presentation.words import entries as entries
from corepy.dns.presentation.words import offset_of as offset_of
