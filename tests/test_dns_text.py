"""Messages as text: records with compressed and with malformed rdata."""

import struct
import subprocess
import sys

from corepy.dns import names, query
from corepy.dns.text import records_of, to_dig


def reply(*records):
    """A reply about example.org whose records are (type, rdata); their owner is a pointer."""
    head = bytearray(query(names.from_text("example.org"), 1))
    head[2:4] = b"\x81\x80"
    struct.pack_into("!H", head, 6, len(records))
    for rtype, rdata in records:
        head += b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, 60, len(rdata)) + rdata
    return bytes(head)


def test_names_in_rdata_are_expanded():
    text = to_dig(reply((15, b"\0\5\4mail\xc0\x0c"), (65, b"\0\1\xc0\x0c\0\3\0\2\1\xbb")))
    assert "example.org.\t60\tIN\tMX\t5 mail.example.org.\n" in text
    assert 'example.org.\t60\tIN\tHTTPS\t1 example.org. port="443"\n' in text


def test_malformed_rdata_is_written_in_generic_form():
    wire = reply((1, b"\1\2\3"), (15, b"\0\5\xff\xff"), (6, b"\xc0\x0c"), (16, b"\2a"), (9, b""))
    assert [record.data for record in records_of(wire)["answer"]] == [
        "\\# 3 010203",
        "\\# 4 0005FFFF",
        "\\# 2 C00C",
        "\\# 2 0261",
        "\\# 0",
    ]


def test_the_codec_is_imported_only_for_records():
    code = (
        "import sys, corepy.server.build.builder, corepy.server.explain.explainer\n"
        "assert 'corepy.dns.presentation' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
