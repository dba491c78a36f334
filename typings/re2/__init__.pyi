"""Stubs for google-re2: only what is used."""

class error(Exception): ...  # noqa: N801 - the library's name

class Options:
    log_errors: bool
    max_mem: int
    case_sensitive: bool

class _Match:
    # Of a pattern that is bytes.
    def __getitem__(self, group: int) -> bytes: ...
    def group(self, *groups: int) -> tuple[bytes | None, ...]: ...  # for two groups and more

class _Regexp:
    pattern: str
    groups: int
    groupindex: dict[bytes, int]  # of a pattern that is bytes
    def search(self, text: str | bytes) -> _Match | None: ...

def compile(pattern: str | bytes, options: Options | None = None) -> _Regexp: ...

class Set:
    @classmethod
    def SearchSet(cls, options: Options | None = None) -> Set: ...
    def Add(self, pattern: str | bytes) -> int: ...
    def Compile(self) -> None: ...
    def Match(self, text: str | bytes) -> list[int] | None: ...
