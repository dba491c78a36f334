"""Prints the results of functions on the path of a query for packets, to compare two forms.

    python packet_results.py [pure] < PACKETS    # a query and a reply on each line, in hexadecimal

With `pure`, modules of corepy are loaded from their sources even where they are compiled.
"""

from __future__ import annotations

import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader


class PureModules:
    """Finds the sources of corepy's modules, before other finders find their compiled forms."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if not name.startswith("corepy"):
            return None
        for folder in sys.path if path is None else path:
            found = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
            if found is not None:
                return found
        return None


if sys.argv[1:] == ["pure"]:
    sys.meta_path.insert(0, PureModules)

from corepy.dns import (  # noqa: E402  # after the finder
    FormError,
    Reply,
    Request,
    accept,
    compress,
    edns,
    finish,
    message,
    names,
    reply_validation,
    response,
    survey,
    wire,
)
from corepy_cache import classify, entry, keys  # noqa: E402  # after the finder
from corepy_forward import forms  # noqa: E402  # after the finder

MODULES = (classify, compress, entry, forms, message, names, survey, wire)
HEADER = bytes(5) + b"\1" + bytes(6)
QUESTION = b"\1a\0\0\1\0\1"


def outcome(function, *arguments):
    """Return the result of a call as text, or its exception: the message if it is FormError."""
    try:
        return repr(function(*arguments))
    except FormError as error:
        return f"FormError: {error}"
    except Exception as error:
        return type(error).__name__


def fields(made, names):
    return {name: outcome(getattr, made, name) for name in names}


REQUEST = (
    *("wire", "id", "flags", "name_wire", "asked", "qtype", "qclass", "question_end", "name"),
    *("qname", "type", "class_", "question", "opcode", "rd", "ad", "cd", "tc", "do", "size"),
)
REPLY = (
    *("wire", "options", "extended_rcode", "ttl_offsets", "plain_ttls", "rcode", "tc", "aa"),
    "ancount",
)


def of_query(data):
    """Yield the results for a query, and the request if it is one."""
    made = accept(data)
    if not isinstance(made, Request):
        yield repr(made)
        return
    yield fields(made, REQUEST)
    for change in ({"do": True}, {"options": b""}, {"flags_set": 0x0010}, {"name_wire": b"\1x\0"}):
        yield outcome(lambda change=change: made.derive(**change).wire)
    yield made.with_flags(0x0020, 0x0100).wire
    yield outcome(lambda: finish(made, made.error(5, "why", (15, "text"))))
    yield outcome(keys.key_of, made)
    yield outcome(forms.body_of, made, made.asked)
    yield outcome(names.labels_of, made.name_wire)
    yield outcome(names.parent_offsets, made.name_wire)
    yield outcome(names.is_subdomain, made.name_wire, b"\7example\0")


def of_reply(data, request):
    """Yield the results for a reply, also as one to `request`."""
    for function in (wire.scan, wire.counts, survey.survey, wire.min_ttl, wire.soa_negative_ttl):
        yield outcome(function, data)
    yield outcome(lambda: list(wire.walk(data)))
    yield outcome(edns.parse_options, data[12:])
    reader = wire.NameReader(data)
    for offset in range(12, min(len(data), 60)):
        yield outcome(wire.read_name, data, offset)
        yield outcome(reader.read, offset)
    for size in (512, 100, 40):
        yield outcome(compress.rebuild, data, size)
    for make in (lambda: Reply.from_wire(data), lambda: Reply.from_answer(data, read_end(data))):
        yield outcome(lambda make=make: fields(make(), REPLY))
        try:
            reply = make()
        except FormError:
            continue
        yield from of_parsed(reply, request)


def read_end(data):
    return wire.read_name(data, 12)[1] + 4


def of_parsed(reply, request):
    kind = outcome(response.typify, reply)
    yield kind
    yield outcome(lambda: response.minimal_ttl(reply, response.typify(reply)))
    yield outcome(reply_validation.reply_problem, request, reply)
    yield outcome(finish, request, reply)
    yield outcome(lambda: fields(classify.classify(reply, request, 1e9), ("kind", "ttl", "keep")))
    yield outcome(cached, reply, request)


def cached(reply, request):
    """Return the replies of a cache entry that is fresh, and five seconds later."""
    kept = entry.CacheEntry(b"key", request, reply.wire, reply.ttl_offsets, 60, 100.0)
    return [kept.reply(request, kept.left(now)).wire for now in (100.0, 105.0)], kept.size


def lines(packets):
    """Yield the results for each line of packets as text."""
    for line in packets:
        query, reply = map(bytes.fromhex, line.split(","))
        made = accept(query)
        request = made if isinstance(made, Request) else Request.from_wire(HEADER + QUESTION)
        yield repr([*of_query(query), *of_reply(reply, request)])


if __name__ == "__main__":
    print(*(module.__file__ for module in MODULES))
    for result in lines(sys.stdin):
        print(result)
