"""Finding and loading plugins, with distributions laid out on disk as pip does it."""

import importlib.metadata
import sys

import pytest

from corepy.loading.registry import find, load
from corepy.plugin import PluginError


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    class Site:
        def install(self, distribution, directive, code):
            module = f"{distribution.replace('-', '_')}_module"
            (tmp_path / f"{module}.py").write_text(code)
            info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
            )
            (info / "entry_points.txt").write_text(f"[corepy.plugins]\n{directive} = {module}\n")

        def find(self):
            return find(importlib.metadata.distributions(path=[str(tmp_path)]))

    yield Site()
    for name in set(sys.modules) - before:
        del sys.modules[name]


GOOD = "api_version = 1\ndef setup(controller): pass\n"


def test_listing_imports_nothing(site):
    site.install("dist-a", "alpha", "raise RuntimeError('imported')")
    found = site.find()
    assert [(f.directive, f.distribution, f.version) for f in found.values()] == [
        ("alpha", "dist-a", "1.2")
    ]


def test_metadata_is_parsed_once_for_all_plugins_of_a_distribution():
    class Several(importlib.metadata.Distribution):
        parsed = 0

        def read_text(self, filename):
            type(self).parsed += filename == "METADATA"
            return {
                "METADATA": "Metadata-Version: 2.1\nName: dist-a\nVersion: 1.2\n",
                "entry_points.txt": "[corepy.plugins]\nalpha = a\nbeta = b\n",
            }.get(filename)

        def locate_file(self, path):
            raise NotImplementedError

    found = find([Several()])
    assert [(f.directive, f.distribution, f.version) for f in found.values()] == [
        ("alpha", "dist-a", "1.2"),
        ("beta", "dist-a", "1.2"),
    ]
    assert Several.parsed == 1


def test_listing_is_sorted(site):
    for name in ("zeta", "alpha", "mid"):
        site.install(f"dist-{name}", name, GOOD)
    assert list(site.find()) == ["alpha", "mid", "zeta"]


def test_load(site):
    site.install("dist-a", "alpha", GOOD + "before = ('cache',)\n")
    plugin = load(site.find()["alpha"])
    assert (plugin.directive, plugin.before, plugin.after) == ("alpha", ("cache",), ())
    assert callable(plugin.setup)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError"),
        ("raise ValueError('boom')", "cannot be imported: ValueError: boom"),
        ("syntax error here", "cannot be imported: SyntaxError"),
        ("def setup(controller): pass\n", "plugin API version None"),
        (
            "api_version = 99\ndef setup(controller): pass\n",
            "plugin API version 99, this corepy supports 1",
        ),
        ("api_version = 1\n", "has no function setup"),
        (GOOD + "before = 'cache'\n", "`before` must be a tuple"),
        (GOOD + "after = (1,)\n", "`after` must be a tuple"),
        (
            GOOD + "def __getattr__(name):\n import nothing_of_this_name\n",
            "its attributes cannot be read: ModuleNotFoundError",
        ),
        (
            GOOD + "def __getattr__(name):\n raise SystemExit(name)\n",
            "its attributes cannot be read: SystemExit: before",
        ),
    ],
)
def test_a_broken_plugin_is_named(site, code, problem):
    site.install("dist-a", "alpha", code)
    with pytest.raises(PluginError) as caught:
        load(site.find()["alpha"])
    assert str(caught.value).startswith("plugin/alpha (from dist-a): ")
    assert problem in str(caught.value)


def test_two_distributions_with_one_directive(site):
    site.install("dist-b", "alpha", GOOD)
    site.install("dist-a", "alpha", GOOD)
    site.install("dist-c", "other", GOOD)
    found = site.find()
    with pytest.raises(PluginError, match=r"from dist-a, dist-b.*several installed distributions"):
        load(found["alpha"])
    assert load(found["other"]).directive == "other"


def test_the_former_name_of_the_distribution(site):
    for name in ("corepy", "corepy-dns"):
        site.install(name, "alpha", GOOD)
    with pytest.raises(PluginError) as caught:
        load(site.find()["alpha"])
    assert str(caught.value) == (
        "plugin/alpha (from corepy, corepy-dns): corepy is the former name of corepy-dns;"
        " pip uninstall corepy, then install corepy-dns again"
    )


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("entry_points.txt", "[corepy.plugins]\nno equals sign\n", ["other"]),
        ("entry_points.txt", "\xff\xfe", ["other"]),
        ("METADATA", "", ["alpha", "other"]),
    ],
)
def test_a_broken_distribution_costs_itself_only(site, tmp_path, file, content, found):
    site.install("dist-a", "alpha", GOOD)
    site.install("dist-c", "other", GOOD)
    (tmp_path / "dist_a-1.2.dist-info" / file).write_bytes(content.encode("latin-1"))
    assert list(site.find()) == found
    assert load(site.find()["other"]).directive == "other"


def test_our_own_plugins_are_found_as_any_other():
    assert {"bind", "cache", "errors", "forward", "log", "whoami"} <= set(find())
