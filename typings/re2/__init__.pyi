"""Stubs for google-re2: only what is used."""

class error(Exception): ...  # noqa: N801 - the library's name

class Options:
    log_errors: bool

class _Match:
    def __getitem__(self, group: int) -> str: ...
    def groups(self) -> tuple[str | None, ...]: ...

class _Regexp:
    pattern: str
    groupindex: dict[str, int]
    def search(self, text: str) -> _Match | None: ...

def compile(pattern: str, options: Options | None = None) -> _Regexp: ...
