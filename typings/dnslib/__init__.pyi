from typing import Any

class DNSError(Exception): ...

class Bimap:
    def __getitem__(self, key: int) -> str: ...
    def __getattr__(self, name: str) -> int: ...
    def get(self, key: int, default: str | None = None) -> str: ...

QTYPE: Bimap
CLASS: Bimap
RCODE: Bimap
OPCODE: Bimap
QR: Bimap

class DNSLabel:
    label: tuple[bytes, ...]
    def __init__(self, label: DNSLabel | str | bytes | list[bytes] | tuple[bytes, ...]) -> None: ...

class DNSBuffer:
    data: bytearray
    offset: int
    def __init__(self, data: bytes = b"") -> None: ...
    def append(self, s: bytes) -> None: ...
    def encode_name(self, name: DNSLabel) -> None: ...
    def encode_name_nocompress(self, name: DNSLabel) -> None: ...

class DNSHeader:
    id: int
    bitmap: int
    qr: int
    opcode: int
    aa: int
    tc: int
    rd: int
    ra: int
    z: int
    ad: int
    cd: int
    rcode: int
    q: int
    a: int
    auth: int
    ar: int
    def __init__(
        self,
        id: int | None = None,
        bitmap: int | None = None,
        q: int = 0,
        a: int = 0,
        auth: int = 0,
        ar: int = 0,
        **args: int,
    ) -> None: ...
    def pack(self, buffer: DNSBuffer) -> None: ...

class DNSQuestion:
    qname: DNSLabel
    qtype: int
    qclass: int
    def __init__(self, qname: DNSLabel | str | None = None, qtype: int = 1, qclass: int = 1) -> None: ...
    def pack(self, buffer: DNSBuffer) -> None: ...

class RD:
    data: bytes
    def __init__(self, data: bytes = b"") -> None: ...
    def toZone(self) -> str: ...

class A(RD):
    def __init__(self, data: str | tuple[int, ...] | list[int]) -> None: ...

class AAAA(RD):
    def __init__(self, data: str | tuple[int, ...] | list[int]) -> None: ...

class TXT(RD):
    def __init__(self, data: str | bytes | list[str] | list[bytes]) -> None: ...

class CNAME(RD):
    label: DNSLabel
    def __init__(self, label: DNSLabel | str | None = None) -> None: ...

class NS(CNAME): ...
class PTR(CNAME): ...
class DNAME(CNAME): ...

class MX(RD):
    preference: int
    label: DNSLabel
    def __init__(self, label: DNSLabel | str | None = None, preference: int = 10) -> None: ...

class SRV(RD):
    priority: int
    weight: int
    port: int
    target: DNSLabel
    def __init__(
        self, priority: int = 0, weight: int = 0, port: int = 0, target: DNSLabel | str | None = None
    ) -> None: ...

class SOA(RD):
    mname: DNSLabel
    rname: DNSLabel
    times: tuple[int, int, int, int, int]
    def __init__(
        self,
        mname: DNSLabel | str | None = None,
        rname: DNSLabel | str | None = None,
        times: tuple[int, int, int, int, int] | None = None,
    ) -> None: ...

class EDNSOption:
    code: int
    data: bytes
    def __init__(self, code: int, data: bytes) -> None: ...

class RR:
    rname: DNSLabel
    rtype: int
    rclass: int
    ttl: int
    # RD, but a list of EDNSOption in an OPT record, and each type has attributes of its own.
    rdata: Any
    def __init__(
        self,
        rname: DNSLabel | str | None = None,
        rtype: int = 1,
        rclass: int = 1,
        ttl: int = 0,
        rdata: RD | list[EDNSOption] | None = None,
    ) -> None: ...
    @classmethod
    def fromZone(cls, zone: str, origin: str = "", ttl: int = 0) -> list[RR]: ...
    def pack(self, buffer: DNSBuffer) -> None: ...
    def toZone(self) -> str: ...

class EDNS0(RR):
    def __init__(
        self,
        rname: DNSLabel | str | None = None,
        rtype: int = 41,
        ext_rcode: int = 0,
        version: int = 0,
        flags: str = "",
        udp_len: int = 0,
        opts: list[EDNSOption] | None = None,
    ) -> None: ...

class DNSRecord:
    header: DNSHeader
    questions: list[DNSQuestion]
    rr: list[RR]
    auth: list[RR]
    ar: list[RR]
    q: DNSQuestion
    a: RR
    def __init__(
        self,
        header: DNSHeader | None = None,
        questions: list[DNSQuestion] | None = None,
        rr: list[RR] | None = None,
        q: DNSQuestion | None = None,
        a: RR | None = None,
        auth: list[RR] | None = None,
        ar: list[RR] | None = None,
    ) -> None: ...
    @classmethod
    def parse(cls, packet: bytes) -> DNSRecord: ...
    @classmethod
    def question(cls, qname: str, qtype: str = "A", qclass: str = "IN") -> DNSRecord: ...
    def reply(self, ra: int = 1, aa: int = 1) -> DNSRecord: ...
    def add_question(self, *q: DNSQuestion) -> None: ...
    def add_answer(self, *rr: RR) -> None: ...
    def add_auth(self, *auth: RR) -> None: ...
    def add_ar(self, *ar: RR) -> None: ...
    def pack(self) -> bytearray: ...
