"""Runs the steps of a Dockerfile in a chroot, without a container engine.

    python3 tools/run_dockerfile.py DOCKERFILE BASE FOLDER [TARGET] [NAME=VALUE]...

BASE is a tar archive that takes the place of the base image. The root filesystem of the last stage,
or of TARGET, becomes FOLDER/TARGET, and FOLDER/config.json has its entry point, command,
environment and labels. The context is the current directory, less the files that
DOCKERFILE.dockerignore excludes. NAME=VALUE are build arguments. Needs root.

It knows the instructions that deploy/kubernetes/Dockerfile uses, and fails on others.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

_IN_CHROOT: Final = """\
mount -t proc proc "$1/proc" && exec chroot "$1" env -i "${@:3}" /bin/sh -c "$2"
"""
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Step(NamedTuple):
    """An instruction and its arguments as text."""

    instruction: str
    text: str


class Stage:
    """A stage: its name, the image or stage that it begins with, and its steps."""

    def __init__(self, name: str, base: str) -> None:
        self.name = name
        self.base = base
        self.steps: list[Step] = []
        self.config: dict[str, object] = {}
        self.labels: dict[str, str] = {}
        self.environment = {"PATH": _PATH}
        self.arguments: dict[str, str] = {}


def steps(text: str) -> list[Step]:
    """Return the instructions of a Dockerfile."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    parts = [line.strip().split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Step(instruction.upper(), text) for instruction, text in parts]


def stages(found: list[Step], given: dict[str, str]) -> dict[str, Stage]:
    """Return the stages by name; `given` are the build arguments."""
    values: dict[str, str] = {}
    result: dict[str, Stage] = {}
    stage: Stage | None = None
    for step in found:
        if step.instruction == "FROM":
            base, _, name = re.fullmatch(r"(\S+)( AS (\S+))?", step.text).groups()  # type: ignore[union-attr]  # or it fails
            stage = result[name] = Stage(name, _expand(base, values))
        elif stage is not None:
            stage.steps.append(step)
        else:
            name, _, default = step.text.partition("=")
            values[name] = given.get(name, default)
    return result


def _expand(text: str, values: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Return whether the lines `patterns` of a .dockerignore exclude a path of the context."""
    parts = path.split("/")
    parents = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    ignored = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        names = parts if plain.startswith("**/") else parents
        if any(_matches(name, plain.removeprefix("**/")) for name in names):
            ignored = not pattern.startswith("!")
    return ignored


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


class Builder:
    """Builds stages below a folder."""

    def __init__(self, dockerfile: Path, base: Path, folder: Path, given: dict[str, str]) -> None:
        self._stages = stages(steps(dockerfile.read_text()), given)
        self._base = base
        self._folder = folder
        self._given = given
        ignore = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        self._patterns = ignore.read_text().split() if ignore.exists() else []

    @property
    def last(self) -> str:
        """The name of the last stage."""
        return list(self._stages)[-1]

    def build(self, name: str) -> Stage:
        """Build a stage, after those that it needs, unless that is done already."""
        stage = self._stages[name]
        tree = self._folder / name
        if tree.exists():
            return stage
        below = self._stages.get(stage.base)
        if below is not None:
            self.build(below.name)
            _run("cp", "--archive", str(self._folder / below.name), str(tree))
            stage.environment |= below.environment
            stage.labels |= below.labels
        else:
            tree.mkdir(parents=True)
            _run("tar", "--extract", "--file", str(self._base), "--directory", str(tree))
        for step in stage.steps:
            print(f"{name}: {step.instruction} {' '.join(step.text.split())}", flush=True)  # noqa: T201  # its output
            self._do(stage, tree, step)
        return stage

    def _do(self, stage: Stage, tree: Path, step: Step) -> None:
        known = {**stage.arguments, **stage.environment}
        match step.instruction:
            case "RUN":
                pairs = [f"{key}={value}" for key, value in known.items()]
                command = ("bash", "-c", _IN_CHROOT, "bash", str(tree), step.text, *pairs)
                _run("unshare", "--mount", "--pid", "--fork", "--kill-child", *command)
            case "COPY":
                self._copy(tree, shlex.split(step.text))
            case "ARG":
                name, _, default = step.text.partition("=")
                stage.arguments[name] = self._given.get(name, "".join(shlex.split(default)))
            case "ENV" | "LABEL":
                goal = stage.environment if step.instruction == "ENV" else stage.labels
                pairs = [_expand(word, known) for word in shlex.split(step.text)]
                goal |= dict(pair.split("=", 1) for pair in pairs)
            case "ENTRYPOINT" | "CMD":
                stage.config[step.instruction.lower()] = json.loads(step.text)
            case other:
                raise ValueError(f"{stage.name}: the instruction {other} is not supported")

    def _copy(self, tree: Path, words: list[str]) -> None:
        *sources, goal = words
        if sources[0].startswith("--from="):
            origin = sources.pop(0).removeprefix("--from=")
            self.build(origin)
            for source in sources:
                _run("cp", "--archive", f"{self._folder / origin}{source}", f"{tree}{goal}")
            return
        into = tree / goal.lstrip("/")
        for source in sources:
            for path in self._context(Path(source)):
                whole = source == "."
                copy = into / path if whole else into / path.name if goal.endswith("/") else into
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)

    def _context(self, source: Path) -> list[Path]:
        found = [source] if source.is_file() else sorted(source.rglob("*"))
        return [
            path for path in found if path.is_file() and not is_ignored(str(path), self._patterns)
        ]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603  # the steps of our own Dockerfile


def main(dockerfile: str, base: str, folder: str, *words: str) -> None:
    """Build the stage that the command line names."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    builder = Builder(Path(dockerfile), Path(base), Path(folder), given)
    target = next((word for word in words if "=" not in word), builder.last)
    stage = builder.build(target)
    config = {**stage.config, "environment": stage.environment, "labels": stage.labels}
    (Path(folder) / "config.json").write_text(json.dumps(config, indent=4))


if __name__ == "__main__":
    main(*sys.argv[1:])
