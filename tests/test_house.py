"""House rules that would rot without a test: imports point one way, documents name files that exist."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPILED = "compiled_classes"
ALLOWED = {
    "corefile": {"corefile"},
    "dns": {"dns", COMPILED},
    "net": {"net", COMPILED},
    "http": {"http", "net", "plugin", "release"},
    "plugin": {"plugin", "corefile", "dns", "net", "flags", "release", COMPILED},
    "zone": {"zone", "http", "net", "plugin", "corefile", "dns"},  # polled_*: an API, processes
    "expr": {"expr", "plugin", "corefile", "dns"},
    "loading": {"loading", "plugin", "corefile", "release"},
    "server": {"server", "loading", "plugin", "corefile", "dns", "net", "release", COMPILED},
    "scaffold": {"scaffold", "loading", "plugin"},
    "supervise": {"supervise", "net"},
    "testing": {"testing", "server", "loading", "plugin", "corefile", "dns", "net"},
}
SOURCES = sorted((ROOT / "corepy").rglob("*.py"))
PLUGIN_SOURCES = sorted((ROOT / "plugins").glob("*/corepy_*/**/*.py"))
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(
        path
        for folder in ("docs", "deploy", "editors", "examples", "plugins")
        for path in sorted((ROOT / folder).rglob("*.md"))
    ),
]
GENERATED = {"example.md", "plugins/index.md", "metrics.md", "changelog.md"}


def imported_modules(path):
    """The names of the modules that a file imports, and of what it imports from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def of_project(path):
    return {name for name in imported_modules(path) if re.match(r"corepy(_\w+)?(\.|$)", name)}


def violations(paths, of_path):
    """What `of_path` finds in each file. One test for all of them: a test takes longer than a file."""
    found = {path.relative_to(ROOT).as_posix(): of_path(path) for path in paths}
    return {name: it for name, it in found.items() if it}


def test_the_command_starts_without_the_plugin_api():
    """-version would take twice as long, and the supervisor 5 MB more."""
    code = "import sys, corepy.cli, corepy.supervise.supervisor; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"corepy.plugin", "corepy.corefile", "asyncio", "pluggy"} & {*loaded.stdout.split()}


def imports_upwards(path):
    layer = path.relative_to(ROOT / "corepy").parts[0]
    if layer not in ALLOWED:
        return set()  # the command may import everything
    return {
        name
        for name in of_project(path)
        if name.startswith("corepy_") or ("." in name and name.split(".")[1] not in ALLOWED[layer])
    }


def test_layers_import_downwards():
    assert violations(SOURCES, imports_upwards) == {}


def test_no_two_files_of_the_core_share_a_name():
    names = Counter(path.name for path in SOURCES if "behaviours" not in path.parts)
    del names["__init__.py"]
    assert not [name for name, count in names.items() if count > 1]


def imports_within(package):
    """Return the modules that each module of a package imports, also those for types only."""
    root = package.parent
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    return {name: of_project(path) & files.keys() - {name} for name, path in files.items()}


def ring_among(imports):
    """Return modules that import each other, in order, or nothing.

    A package that a module is in does not count: `from corepy.plugin import metrics` names it.
    """
    done = set()

    def visit(name, above):
        if name in above:
            return [*above[above.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        below = (other for other in imports[name] if not name.startswith(f"{other}."))
        return next(filter(None, (visit(other, [*above, name]) for other in below)), [])

    return next(filter(None, (visit(name, []) for name in sorted(imports))), [])


PACKAGES = [ROOT / "corepy", *sorted((ROOT / "plugins").glob("*/corepy_*"))]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_modules_import_each_other(package):
    """Of two modules that cannot be read, tested or changed apart, one is too many."""
    assert ring_among(imports_within(package)) == []


def test_a_ring_of_imports_is_found(tmp_path):
    package = tmp_path / "corepy_toy"
    package.mkdir()
    for name, text in {
        "__init__": "from corepy_toy.a import f as f",
        "a": "from corepy_toy import b",
        "b": "def f():\n    import corepy_toy.c",
        "c": "if TYPE_CHECKING:\n    from corepy_toy.a import f",
    }.items():
        (package / f"{name}.py").write_text(text)
    ring = ring_among(imports_within(package))
    assert [name.removeprefix("corepy_toy.") for name in ring] == ["a", "b", "c", "a"]
    (package / "c.py").write_text("from corepy.plugin import Handler")
    assert ring_among(imports_within(package)) == []


def imports_of_a_plugin_that_are_not_allowed(path):
    own = path.relative_to(ROOT / "plugins").parts[1]
    allowed = re.compile(
        r"corepy$|corepy\.(plugin|dns|net|http|expr|zone|release|compiled_classes|"
        rf"commands\.(corefile_blocks|run_server))(\.|$)|{own}(\.|$)"
    )
    return {name for name in of_project(path) if not allowed.match(name)}


def test_plugins_import_only_the_plugin_api():
    assert violations(PLUGIN_SOURCES, imports_of_a_plugin_that_are_not_allowed) == {}


def test_no_predictable_randomness():
    paths = [path for path in (*SOURCES, *PLUGIN_SOURCES) if "testing" not in path.parts]
    assert violations(paths, lambda path: {"random"} & imported_modules(path)) == {}


def test_violations_are_named_with_their_files():
    assert len(SOURCES) > 200
    assert len(PLUGIN_SOURCES) > 200
    assert len(DOCUMENTS) > 50
    one, other = SOURCES[:2]
    found = violations([one, other], lambda path: {"asyncio"} if path == other else set())
    assert found == {other.relative_to(ROOT).as_posix(): {"asyncio"}}


def generated(path, link):
    """Whether `make docs` makes the page (tools/mkdocs_pages.py), from a plugin's README say."""
    if path.parent != ROOT / "docs":
        return False
    page = re.fullmatch(r"(plugins|api)/(\w+)\.md", link)
    if page is None or link in GENERATED:
        return link in GENERATED
    kind, name = page.groups()
    made_of = ROOT / "corepy" / name if kind == "api" else ROOT / "plugins" / name / "README.md"
    return made_of.exists()


BARE_EXCEPTION = re.compile(r"# (?:noqa|type: ignore)(?:: [A-Z0-9, ]+|\[[a-z, -]+\])?$")


@pytest.mark.parametrize("folder", ["corepy", "plugins", "tests", "tools", "benchmarks"])
def test_exceptions_for_linters_have_a_reason(folder):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BARE_EXCEPTION.search(line)
    ]
    assert found == []


def paths_that_do_not_exist(path):
    text = path.read_text()
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", text)  # anchors: mkdocs
    missing = [
        link for link in links if not (path.parent / link).exists() and not generated(path, link)
    ]
    named = re.findall(
        r"`((?:corepy|plugins|tests|docs|examples|deploy|editors|benchmarks|tools)/[\w./-]+)`", text
    )
    return missing + [name for name in named if not (ROOT / name).exists()]


def test_paths_in_documents_exist():
    assert violations(DOCUMENTS, paths_that_do_not_exist) == {}


PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())
OTHER_MEANINGS = {
    ("commands/explain.py", "log"): "the lines that were logged meanwhile",
    ("commands/explanation.py", "log"): "the same",
    ("commands/explanation.py", "view"): "the view of a server block",
    ("commands/status_text.py", "cache"): "the key for the numbers of a cache of any plugin",
    ("commands/status_text.py", "file"): "the key for the configuration's path",
    ("commands/status_text.py", "on"): "the state of the packet cache",
    ("commands/status_text.py", "ready"): "the state of the server",
    ("commands/status_text.py", "reload"): "the last reload of the server",
    ("commands/status_text.py", "view"): "the view of a server block",
    ("commands/top/lists.py", "cache"): "the key for the numbers of a cache of any plugin",
    ("commands/top/top_figures.py", "cache"): "the same",
    ("corefile/diagnostics.py", "file"): "a key of a report",
    ("corefile/kubernetes.py", "metadata"): "a key of a manifest",
    ("corefile/zones.py", "grpc"): "a scheme",
    ("corefile/zones.py", "https"): "a scheme",
    ("corefile/zones.py", "https3"): "a scheme",
    ("corefile/zones.py", "quic"): "a scheme",
    ("corefile/zones.py", "tls"): "a scheme",
    ("dns/message.py", "local"): "an attribute of a request",
    ("dns/message.py", "metadata"): "the same",
    ("expr/calls.py", "any"): "a function of the expression language",
    ("expr/predicates.py", "any"): "the same",
    ("expr/query_functions.py", "bufsize"): "the same",
    ("expr/query_functions.py", "metadata"): "the same",
    ("expr/value_types.py", "any"): "the type of a value that is not known",
    ("loading/order.py", "cache"): "the order of the chain is data",
    ("net/arena.py", "view"): "an attribute with a memoryview",
    ("net/inherited.py", "any"): "the name of a socket bound to all addresses",
    ("plugin/block_filter.py", "view"): "the view of a server block",
    ("server/traffic/server_status.py", "file"): "the configuration's path",
    ("plugin/filedata.py", "file"): "a word of messages",
    ("plugin/pending.py", "loop"): "the event loop",
    ("plugin/upstream_words.py", "grpc"): "a scheme",
    ("plugin/upstream_words.py", "https"): "a scheme",
    ("plugin/upstream_words.py", "quic"): "a scheme",
    ("plugin/upstream_words.py", "tls"): "a scheme",
    ("http/http_client.py", "https"): "a scheme",
    ("http/http_session.py", "https"): "a scheme",
    ("http/json_api.py", "errors"): "a member of an error response",
    ("http/json_api.py", "https"): "a scheme",
    ("server/listen/http/grpc.py", "grpc"): "a scheme",
    ("server/listen/transports.py", "grpc"): "a scheme",
    ("plugin/placeholders.py", "local"): "the address of the server",
    ("scaffold/skeleton.py", "template"): "the folder of the skeleton",
    ("server/banner.py", "on"): "the state of the packet cache",
    ("server/explain/choice.py", "view"): "the view of a server block",
    ("server/explain/explainer.py", "view"): "the same",
    ("net/quic/server_connection.py", "quic"): "the logger of a library",
    ("server/listen/dns_over_quic.py", "quic"): "a scheme",
    ("server/listen/dns_over_tls.py", "tls"): "a scheme",
    ("server/listen/http/https3.py", "https3"): "a scheme",
    ("server/listen/packet_cache.py", "on"): "the same, in an environment variable",
    ("server/listen/transports.py", "https"): "a scheme",
    ("server/listen/transports.py", "https3"): "a scheme",
    ("server/listen/transports.py", "quic"): "a scheme",
    ("server/listen/transports.py", "tls"): "a scheme",
    ("server/listen/http/https.py", "https"): "a scheme",
    ("server/traffic/server_status.py", "on"): "the state of the packet cache",
    ("server/traffic/server_status.py", "ready"): "the state of the server",
    ("server/traffic/server_status.py", "reload"): "the last reload of the server",
    ("server/traffic/server_status.py", "view"): "the view of a server block",
    ("server/workers/protocol.py", "reload"): "a message to a follower",
}


def words_of(path):
    """String literals and identifiers; docstrings may give examples."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"is_{node.name.lower()}"
        elif isinstance(node, ast.Attribute):
            yield f"is_{node.attr.lower()}"
        elif isinstance(node, ast.Name):
            yield f"is_{node.id.lower()}"


def names_plugin(word):
    """The plugin that a literal is, or after which an identifier such as is_cache_handler is made."""
    if word in PLUGINS:
        return word
    ours = "|".join(PLUGINS)
    found = re.fullmatch(rf"is_(?:(?:is|has)_)?({ours})_?(?:plugin|handler|directive)", word)
    return found and found[1]


CORE = [
    it for it in SOURCES if it.relative_to(ROOT / "corepy").parts[:2] != ("scaffold", "template")
]


def plugins_named_in(path):
    """The plugins that a file names, and those that it should name with another meaning but does not."""
    file = path.relative_to(ROOT / "corepy").as_posix()
    named = {name for word in words_of(path) if (name := names_plugin(word))}
    return named ^ {name for where, name in OTHER_MEANINGS if where == file}


def test_the_core_names_no_plugin():
    assert violations([it for it in CORE if "testing" not in it.parts], plugins_named_in) == {}


def test_a_name_of_a_plugin_is_found():
    assert [
        names_plugin(it) for it in ("bind", "is_cache_handler", "is_is_bind_plugin", "cached")
    ] == [
        "bind",
        "cache",
        "bind",
        None,
    ]
