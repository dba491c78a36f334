r"""Records in presentation format, as in zone files: converts text to wire format and back.

This is the project's only record codec. `table` describes each record type as a sequence of named
fields, and `codec` reads and writes rdata by that table. `lines` reads whole records, `words`
splits text into words. Every type can also be read and written in the generic form of RFC 3597
section 5, `\# LENGTH HEX`; types without an entry in the table have no other form.

Reading is strict: a missing, surplus or malformed field raises `RecordError`, with the field and
the word at fault. Writing never fails: rdata that its fields cannot express is written in the
generic form. Written text can be read again and gives the same bytes; only rdata that is malformed
for its type is refused.

All functions are pure, without I/O. The server's hot path does not import this package.
"""

from corepy.dns.presentation.codec import rdata_from_text as rdata_from_text
from corepy.dns.presentation.codec import rdata_to_text as rdata_to_text
from corepy.dns.presentation.lines import Record as Record
from corepy.dns.presentation.lines import read_entry as read_entry
from corepy.dns.presentation.lines import read_record as read_record
from corepy.dns.presentation.record_error import RecordError as RecordError
from corepy.dns.presentation.words import entries as entries
from corepy.dns.presentation.words import offset_of as offset_of
