"""Reads the XML documents of AWS, with bounds and without entities.

A document type declaration is refused, so that no entity can be defined. expat itself reads nothing
from files or networks.
"""

from __future__ import annotations

from typing import Final
from xml.parsers import expat

MOST_ELEMENTS: Final = 1_000_000
DEEPEST: Final = 20


class Element:
    """An element with its text, without attributes and white space between elements."""

    __slots__ = ("children", "tag", "text")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.text = ""
        self.children: list[Element] = []

    def child(self, tag: str) -> Element | None:
        """Return the first child with a tag, None without one."""
        return next((it for it in self.children if it.tag == tag), None)

    def text_of(self, *path: str) -> str:
        """Return the text of a descendant, by the tags that lead to it; "" without one."""
        found: Element | None = self
        for tag in path:
            found = None if found is None else found.child(tag)
        return "" if found is None else found.text

    def find(self, *path: str) -> list[Element]:
        """Return the children at the end of a path of tags."""
        *parents, last = path
        found: Element | None = self
        for tag in parents:
            found = None if found is None else found.child(tag)
        return [] if found is None else [it for it in found.children if it.tag == last]


def read_xml(data: bytes) -> Element:
    """Return the root element; raises ValueError for a document that is malformed or too large."""
    reader = _Reader()
    try:
        reader.parser().Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {error}") from None
    except (LookupError, UnicodeError):  # an encoding that Python does not have
        raise ValueError("not XML: the encoding is unknown") from None
    assert reader.root is not None  # expat refuses a document without elements
    return reader.root


class _Reader:
    """The handlers of a parser, which build the elements."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._texts: list[str] = []
        self._count = 0

    def parser(self) -> expat.XMLParserType:
        """Return a parser that calls the handlers.

        It is not an attribute: a reference cycle would leave all elements to the garbage collector,
        which would stop the event loop for 50 ms and more.
        """
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._texts.append
        parser.StartDoctypeDeclHandler = self._refuse
        return parser

    def _refuse(self, *_: object) -> None:
        raise ValueError("the XML has a document type declaration")

    def _start(self, tag: str, _attributes: object) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS or len(self._open) >= DEEPEST:
            raise ValueError("the XML has too many elements, or is nested too deeply")
        element = Element(tag)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.clear()

    def _end(self, _tag: str) -> None:
        element = self._open.pop()
        if not element.children:
            element.text = "".join(self._texts)
        self._texts.clear()
