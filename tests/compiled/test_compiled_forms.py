"""The compiled form: the modules it has, and that it answers as the pure one does.

Only `make test-compiled` runs these tests, in the copy of the tree with the compiled modules.
"""

import importlib.util
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from random import Random

import pytest

from corepy import release
from corepy.testing.fuzzing import Source
from corepy.testing.helper_module import helper_module

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from compile_modules import modules  # noqa: E402  # found by sys.path

FUZZ = str(ROOT / "tests/fuzz/one")
PACKETS = 1500
COMPILED = [
    ".".join(path.with_suffix("").parts).removeprefix(f"plugins.{path.parts[1]}.")
    for path in modules(ROOT)
]


def test_this_is_the_compiled_form():
    assert release.form() == "compiled"


@pytest.mark.parametrize("name", COMPILED)
def test_the_module_is_compiled(name):
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin.endswith(tuple(EXTENSION_SUFFIXES))


def packets():
    """Yield queries and replies, right ones and wrong ones."""
    random = Random(17)  # the same packets each time
    queries = helper_module(FUZZ, "test_fuzz_requests").build
    replies = helper_module(FUZZ, "test_fuzz_replies").build
    for _ in range(PACKETS):
        query = queries(Source(random.randbytes(random.randrange(400))))
        reply, _ = replies(Source(random.randbytes(random.randrange(800))))
        yield f"{query.hex()},{reply.hex()}\n"


def test_both_forms_return_the_same_for_random_packets():
    program = [sys.executable, str(Path(__file__).with_name("packet_results.py"))]
    text = "".join(packets())
    forms = [
        subprocess.run([*program, *form], input=text, capture_output=True, text=True, check=True)
        for form in ((), ("pure",))
    ]
    (compiled, *found), (pure, *expected) = (done.stdout.splitlines() for done in forms)
    assert all(file.endswith(tuple(EXTENSION_SUFFIXES)) for file in compiled.split())
    assert all(file.endswith(".py") for file in pure.split())
    assert len(found) == len(expected) == PACKETS
    for packet, one, other in zip(text.splitlines(), found, expected, strict=True):
        assert one == other, packet


def test_weak_references_never_point_to_freed_objects():
    """mypyc makes classes whose references crash the process; tools/compile_modules.py corrects it."""
    program = [sys.executable, str(Path(__file__).with_name("weak_references.py")), *COMPILED]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    outcomes = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(outcomes.values()) == {"cleared", "not made", "refused"}
    for name in ("dns.form_error.FormError", "server.listen.tcp.TCPConnection"):
        assert outcomes[f"corepy.{name}"] == "cleared"
    assert outcomes["corepy.dns.edns.__mypyc_lambda__0_obj"] == "cleared"  # freed ones are kept
    assert outcomes["corepy.dns.message.Request"] == "refused"


@pytest.mark.parametrize("case", ["setter", "assignment", "reuse"])
def test_code_that_runs_while_an_object_is_freed(case):
    """mypyc frees before it assigns, and reuses objects too early; tools/compile_modules.py corrects both."""
    program = [sys.executable, str(Path(__file__).with_name("code_while_freeing.py")), case]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_base_class_without_types_is_refused(tmp_path):
    """Objects of such a class would overwrite their own attributes."""
    module = tmp_path / "corepy/a.py"
    module.parent.mkdir()
    module.write_text("from h2.connection import H2Connection\nclass A(H2Connection): ...\n")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.corepy.compile]\nmodules = ["corepy.a"]')
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from compile_modules import compile_into; compile_into(*map(Path, sys.argv[2:]))"
    )
    program = [sys.executable, "-c", code, ROOT / "tools", tmp_path / "out", tmp_path]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'corepy/a.py:2: error: Class cannot subclass "H2Connection"' in done.stdout + done.stderr
