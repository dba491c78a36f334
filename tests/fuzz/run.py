"""Run a fuzz target for a while: with atheris, guided by coverage, or with hypothesis where it is missing.

    .venv/bin/python tests/fuzz/run.py replies -seconds 600

An input that fails is printed as a line for the target's SEEDS. What atheris learns is kept in
build/fuzz/, and the next run begins with it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("test_fuzz_") for path in HERE.glob("test_fuzz_*.py"))


def load(target: str) -> Any:
    """Return the module of a target, instrumented together with the server."""
    name = f"fuzz_{target}"  # not such as "http", which is a module of Python's
    spec = importlib.util.spec_from_file_location(name, HERE / f"test_fuzz_{target}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    plugins = [f"corepy_{path.name}" for path in (HERE.parent.parent / "plugins").iterdir()]
    with atheris.instrument_imports(["corepy", *plugins]) if atheris else nullcontext():
        spec.loader.exec_module(module)
    return module


def by_atheris(target: str, check: Any, seeds: Any, seconds: int) -> None:
    """Run until the time is up; ends the process, not with 0 if something was found."""
    from corepy.testing.fuzzing import LONGEST

    corpus, found = Path("build/fuzz") / target, Path("build/fuzz/found")
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=60", "-len_control=0"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={found}/{target}-", str(corpus)], check)
    atheris.Fuzz()


def by_hypothesis(check: Any, seconds: int) -> None:
    """Run until the time is up; raises what was found."""
    from corepy.testing.fuzzing import briefly

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        briefly(check, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/fuzz/run.py")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("-seconds", type=int, default=60, help="how long (default 60)")
    flags = parser.parse_args()
    module = load(flags.target)

    def check(data: bytes) -> None:
        try:
            module.check(data)
        except BaseException:
            print(f'\n    "": bytes.fromhex("{data.hex()}"),', file=sys.stderr)
            raise

    for data in module.SEEDS.values():
        check(data)
    if atheris:
        by_atheris(flags.target, check, module.SEEDS.values(), flags.seconds)
    else:
        by_hypothesis(check, flags.seconds)


if __name__ == "__main__":
    main()
