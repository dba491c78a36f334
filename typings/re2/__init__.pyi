"""Stubs for google-re2: only what is used."""

class error(Exception): ...  # noqa: N801 - the library's name

class Options:
    log_errors: bool

class _Match: ...

class _Regexp:
    pattern: str
    def search(self, text: str) -> _Match | None: ...

def compile(pattern: str, options: Options | None = None) -> _Regexp: ...
