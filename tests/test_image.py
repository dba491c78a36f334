"""The container image: its pins and locks, its bill of materials, and the tool that runs its steps.

`make fresh` runs the steps and the server in the result (tools/fresh-machine).
"""

import json
import re
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy/kubernetes"
sys.path.insert(0, str(ROOT / "tools"))

import locked_files  # noqa: E402  # found by sys.path
import run_dockerfile  # noqa: E402  # found by sys.path
import sbom  # noqa: E402  # found by sys.path
from compile_modules import REQUIREMENTS, SWITCH  # noqa: E402  # found by sys.path
from plugin_folders import extras, plugins  # noqa: E402  # found by sys.path

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD_IN = [
    line for line in (FOLDER / "build.in").read_text().splitlines() if not line.startswith("#")
]
STEPS = run_dockerfile.steps((FOLDER / "Dockerfile").read_text())


def locked(name):
    """The requirements of a lock, by name: the requirement and its hashes."""
    text = (FOLDER / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    parts = [line.split(" --hash=") for line in lines]
    return {
        canonicalize_name(Requirement(first).name): (Requirement(first), hashes)
        for first, *hashes in parts
    }


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", [*PROJECT["project"]["dependencies"], *extras(plugins())["all"]]),
        ("build.lock", BUILD_IN),
        ("build.lock", PROJECT["build-system"]["requires"]),
        ("build.lock", REQUIREMENTS),
    ],
    ids=["run", "build.in", "build-system", "compile"],
)
def test_everything_is_locked_in_a_version_that_fits(lock, wanted):
    """After a failure: make lock."""
    found = locked(lock)
    assert all(
        re.fullmatch("sha256:[0-9a-f]{64}", it.strip()) for _, all_ in found.values() for it in all_
    )
    assert all(hashes for _, hashes in found.values())
    for requirement in map(Requirement, wanted):
        (specifier,) = found[canonicalize_name(requirement.name)][0].specifier
        assert specifier.operator == "=="
        assert requirement.specifier.contains(specifier.version), requirement


FILES = {
    name: sha256
    for sha256, name in (line.split() for line in (FOLDER / "files.lock").read_text().splitlines())
}
BUILT = {"python-iptables"}
"""Packages without a wheel, for which the first stage has a compiler."""

GLIBC = 36
"""Debian bookworm has glibc 2.36."""


def test_the_files_of_the_locks_are_listed():
    """After a failure: make lock."""
    hashes = {
        it.strip().removeprefix("sha256:")
        for name in ("requirements.lock", "build.lock")
        for _, found in locked(name).values()
        for it in found
    }
    assert set(FILES.values()) <= hashes  # which also cover Python before 3.11


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_both_architectures_find_a_wheel_of_every_package(machine):
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)]
    usable = {
        *cpython_tags((3, 11), ["cp311"], platforms),
        *compatible_tags((3, 11), "cp311", platforms),
    }
    wheels = [parse_wheel_filename(it) for it in FILES if it.endswith(".whl")]
    found = {name for name, _, _, tags in wheels if tags & usable}
    wanted = {*locked("requirements.lock"), *locked("build.lock")}
    assert wanted - found == BUILT
    sources = {parse_sdist_filename(it)[0] for it in FILES if not it.endswith(".whl")}
    assert sources >= BUILT


def test_no_step_depends_on_the_architecture():
    text = (FOLDER / "Dockerfile").read_text()
    assert re.findall(r"(?i)amd64|x86|arm64|aarch64|TARGETARCH|--platform", text) == []


def test_the_files_of_a_lock_are_read():
    text = """\
[[packages]]
name = "a"
sdist = { url = "https://example.org/x/a-1.tar.gz", hashes = { sha256 = "02" } }
wheels = [{ url = "https://example.org/y/a-1-py3-none-any.whl", hashes = { sha256 = "01" } }]
[[packages]]
name = "0b"
wheels = [{ url = "https://example.org/0b-1-py3-none-any.whl", hashes = { sha256 = "03" } }]
"""
    found = {"0b-1-py3-none-any.whl": "03", "a-1-py3-none-any.whl": "01", "a-1.tar.gz": "02"}
    assert list(locked_files.files(text).items()) == list(found.items())


def test_the_base_is_pinned():
    assert STEPS[0].instruction == "ARG"
    assert re.fullmatch(r"BASE=debian:bookworm-slim@sha256:[0-9a-f]{64}", STEPS[0].text)
    bases = [it.text.split()[0] for it in STEPS if it.instruction == "FROM"]
    assert bases == ["${BASE}", "${BASE}", "runtime", "runtime"]


def test_pip_installs_only_locked_packages():
    """Except third-party plugins, which the caller names."""
    runs = [it.text for it in STEPS if it.instruction == "RUN"]
    calls = [call for run in runs for call in re.findall(r"/pip .*?(?=&&|$|;)", run)]
    assert len(calls) == 5
    for call in calls:
        flags = {"--require-hashes", "--no-index", "--no-deps"} & {*call.split()}
        assert flags or call.rstrip().endswith("$PLUGINS"), call


def test_the_targets():
    stages = run_dockerfile.stages(STEPS, {"BASE": "debian"})
    assert list(stages) == ["build", "runtime", "node-cache", "corepy"]
    assert (stages["build"].base, stages["corepy"].base) == ("debian", "runtime")
    entries = {name: [it.text for it in stage.steps] for name, stage in stages.items()}
    assert entries["corepy"] == ['["corepy"]', '["-conf", "/etc/coredns/Corefile"]']
    assert entries["node-cache"] == ['["/node-cache"]']


def test_every_build_argument_is_in_the_instructions():
    arguments = {it.text.partition("=")[0] for it in STEPS if it.instruction == "ARG"}
    release = (ROOT / "RELEASING.md").read_text()
    given = set(re.findall(r"--build-arg (\w+)=", release))
    assert given <= arguments
    assert arguments - given == {"BASE", "PLUGINS"}


def test_the_image_is_compiled_and_has_no_compiler():
    stages = run_dockerfile.stages(STEPS, {"BASE": "debian"})
    build, runtime = ([it.text for it in stages[name].steps] for name in ("build", "runtime"))
    assert "COMPILE=1" in build
    assert any(f'{SWITCH}="$COMPILE"' in it for it in build)
    assert any(" gcc " in it for it in build)
    assert not [it for it in runtime if re.search(r"\b(gcc|python3-dev|/opt/build)\b", it)]


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A context with a Dockerfile that runs nothing."""
    for name in ("kept/a.py", "kept/tests/b.py", "other/c.py", "d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "Dockerfile.dockerignore").write_text("*\n!kept\n!d.txt\n**/tests\n")
    with tarfile.open(tmp_path / "base.tar", "w") as base:
        base.add(tmp_path / "d.txt", "etc/base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def built(context, text, **given):
    (context / "Dockerfile").write_text(text)
    builder = run_dockerfile.Builder(
        Path("Dockerfile"), context / "base.tar", context / "out", given
    )
    return builder.build(builder.last)


def tree(folder):
    return sorted(it.relative_to(folder).as_posix() for it in folder.rglob("*") if it.is_file())


def test_stages_are_built_from_files_and_other_stages(context):
    stage = built(
        context,
        "ARG BASE=x\nFROM ${BASE} AS first\nCOPY . /src\n# a comment\nFROM first AS unused\n"
        'FROM ${BASE} AS last\nARG V="1"\nENV A=b\nLABEL v="${V}" \\\n    w=x\n'
        'COPY d.txt /new/\nCOPY --from=first /src /copied\nENTRYPOINT ["a"]\nCMD ["b"]\n',
        V="2",
    )
    copied = ["copied/d.txt", "copied/kept/a.py"]
    assert tree(context / "out/last") == [*copied, "etc/base", "new/d.txt"]
    assert (stage.labels, stage.environment["A"]) == ({"v": "2", "w": "x"}, "b")
    assert stage.config == {"entrypoint": ["a"], "cmd": ["b"]}
    assert sorted(it.name for it in (context / "out").iterdir()) == ["first", "last"]


def test_an_unknown_instruction_is_named(context):
    with pytest.raises(ValueError, match="last: the instruction VOLUME is not supported"):
        built(context, "FROM x AS last\nVOLUME /a\n")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".git/config", True),
        ("tests/test_image.py", True),
        ("corepy/cli.py", False),
        ("plugins/cache/tests/test_x.py", True),
        ("corepy/__pycache__/cli.pyc", True),
        ("deploy/kubernetes/build.lock", False),
        ("deploy/kubernetes/node-local.yaml", True),
        ("LICENSE", False),
    ],
)
def test_the_context(path, expected):
    patterns = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    assert run_dockerfile.is_ignored(path, patterns) is expected


def test_the_bill_of_materials(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    bill = json.loads(json.dumps(sbom.bill()))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["timestamp"] == "1970-01-02T00:00:00Z"
    assert bill["metadata"]["component"]["name"] == "corepy-dns"
    urls = [it["purl"] for it in bill["components"]]
    assert urls == sorted(set(urls))
    assert any(re.fullmatch(r"pkg:pypi/python-iptables@[\d.]+", it) for it in urls)
    assert any(
        re.fullmatch(r"pkg:deb/debian/libc6@[\w.%-]+\?arch=\w+&distro=debian-\w+", it)
        for it in urls
    )
    assert all("+" not in it for it in urls)
