"""The files that AWS tools share: `~/.aws/credentials` and `~/.aws/config`.

AWS SDKs and Tools Reference Guide, "Shared config and credentials files".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.plugin.reading import read_file
from corepy.zone.polled_api import PollError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy_route53.options import Options

MOST_BYTES: Final = 1024 * 1024
_PROFILE: Final = "profile "

Profile = dict[str, str]


class Profiles(NamedTuple):
    """The profiles of all files, and the one that is used."""

    by_name: Mapping[str, Profile]
    name: str
    is_chosen: bool
    """Whether the Corefile or the environment names it, so that it must exist."""

    files: str
    """The files, for messages."""

    def get(self, name: str) -> Profile:
        """Return a profile; raises `PollError` without one."""
        found = self.by_name.get(name)
        if found is None:
            raise PollError(f"the profile {name!r} is not in {self.files}")
        return found


def read_profiles(options: Options) -> Profiles:
    """Return the profiles of the files that exist; raises `PollError`. In a thread.

    The keys of the credentials file precede those of the config file.
    """
    environment = options.environment
    home = environment.get("HOME") or "/"
    config = environment.get("AWS_CONFIG_FILE") or f"{home}/.aws/config"
    credentials = environment.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials"
    paths = [Path(config), Path(credentials)] if options.file is None else [options.file]
    profiles: dict[str, Profile] = {}
    for path in paths:
        for name, section in _read(path, must_exist=options.file is not None).items():
            profiles.setdefault(name, {}).update(section)
    chosen = options.profile or environment.get("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    files = " or ".join(map(str, paths))
    return Profiles(profiles, chosen or "default", bool(chosen), files)


def _read(path: Path, *, must_exist: bool) -> dict[str, Profile]:
    try:
        content, _ = read_file(path, MOST_BYTES)
    except FileNotFoundError:
        if must_exist:
            raise PollError(f"cannot read {path}: No such file or directory") from None
        return {}
    except OSError as error:
        raise PollError(f"cannot read {path}: {error.strerror or error}") from None
    return parse_profiles(content.decode("utf-8", "replace"))


def parse_profiles(text: str) -> dict[str, Profile]:
    """Return the profiles of a file: sections `[NAME]` or `[profile NAME]` with `KEY = VALUE`.

    Indented lines, which belong to the value above, and lines of another form are left out.
    """
    profiles: dict[str, Profile] = {}
    current: Profile | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[":
            current = _section(stripped, profiles)
        elif current is not None and not line[0].isspace():
            key, equals, value = stripped.partition("=")
            if equals:
                current[key.strip().lower()] = _without_comment(value)
    return profiles


def _section(line: str, profiles: dict[str, Profile]) -> Profile | None:
    name, bracket, _ = line[1:].partition("]")
    name = " ".join(name.split())
    if not bracket or name.startswith(("sso-session ", "services ")):
        return None
    return profiles.setdefault(name.removeprefix(_PROFILE).strip("\"'"), {})


def _without_comment(value: str) -> str:
    """Return a value without a comment, which begins with white space."""
    for mark in (" #", " ;", "\t#", "\t;"):
        value = value.partition(mark)[0]
    return value.strip()
