"""Mnemonics: miekg/dns's spelling, and numbers nobody has a name for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from corepy.dns import constants as c


@pytest.mark.parametrize(
    ("function", "number", "name"),
    [
        (c.type_name, 1, "A"),
        (c.type_name, 65, "HTTPS"),
        (c.type_name, 23, "NSAP-PTR"),
        (c.type_name, 255, "ANY"),
        (c.type_name, 0, "None"),
        (c.type_name, 65280, "TYPE65280"),
        (c.class_name, 1, "IN"),
        (c.class_name, 3, "CH"),
        (c.class_name, 4096, "CLASS4096"),
        (c.opcode_name, 5, "UPDATE"),
        (c.opcode_name, 6, "OPCODE6"),
        (c.rcode_name, 3, "NXDOMAIN"),
        (c.rcode_name, 16, "BADSIG"),
        (c.rcode_name, 24, "RCODE24"),
    ],
)
def test_names(function: Callable[[int], str], number: int, name: str) -> None:
    assert function(number) == name


@pytest.mark.parametrize(
    ("function", "name", "number"),
    [
        (c.type_number, "aaaa", 28),
        (c.type_number, "TYPE65280", 65280),
        (c.type_number, "type1", 1),
        (c.type_number, "nsap-ptr", 23),
        (c.class_number, "ch", 3),
        (c.class_number, "CLASS254", 254),
    ],
)
def test_numbers(function: Callable[[str], int], name: str, number: int) -> None:
    assert function(name) == number


@pytest.mark.parametrize(
    "name", ["", "AX", "TYPE", "TYPE65536", "TYPE-1", "TYPE1x", "CLASS1", "7", "None"]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown DNS type"):
        c.type_number(name)


def test_tables_and_constants_agree() -> None:
    for name, number in c.TYPES.items():
        assert getattr(c, f"TYPE_{name}", number) == number
        if name.isupper():  # "None" and "Reserved" are for printing, as in miekg/dns
            assert c.type_number(name) == number
        assert c.type_name(number) == name
    for name, number in c.RCODES.items():
        assert getattr(c, name, number) == number
    for name, number in c.OPCODES.items():
        assert getattr(c, f"OPCODE_{name}") == number
    for name, number in c.CLASSES.items():
        assert getattr(c, f"CLASS_{name}") == number
