"""`dagy.local_modules`: which files a flow needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagy.errors import FlowDefinitionError
from dagy.local_modules import local_files


def needed(root: Path, files: dict[str, str], entry: str, *folders: str) -> list[str]:
    """Write files and return what `entry` needs, with its own folder and the root searched for imports."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    searched = [(root / entry).parent, root, *(root / folder for folder in folders)]
    return [file.relative_to(root).as_posix() for file in local_files([root / entry], root=root, folders=searched)]


@pytest.mark.parametrize(
    "statement",
    [
        "import a.b",
        "import a.b as x",
        "from a import b",
        "from a.b import c",
        "def f():\n    from a import b",
        "if TYPE_CHECKING:\n    import a.b",
        "try:\n    import a.b\nexcept ImportError: ...",
        "import importlib\nimportlib.import_module('a.b')",
        "__import__('a.b')",
    ],
)
@pytest.mark.parametrize("package", [True, False])
def test_every_form_of_import_is_followed(tmp_path, statement, package):
    files = {"a/b.py": "", "a/unused.py": "", "flow.py": statement, **({"a/__init__.py": ""} if package else {})}
    expected = ["a/__init__.py", "a/b.py", "flow.py"] if package else ["a/b.py", "flow.py"]
    assert needed(tmp_path, files, "flow.py") == expected


def test_imports_are_followed_through_modules_and_in_circles(tmp_path):
    files = {"flow.py": "import a", "a.py": "import b", "b.py": "import c, a", "c.py": "", "d.py": ""}
    assert needed(tmp_path, files, "flow.py") == ["a.py", "b.py", "c.py", "flow.py"]


def test_relative_imports_count_from_their_own_file(tmp_path):
    files = {
        "p/__init__.py": "",
        "p/flow.py": "from . import a\nfrom .q import b\nfrom .. import never",
        "p/a.py": "",
        "p/q/__init__.py": "from .b import x\nfrom ..c import y",
        "p/q/b.py": "",
        "p/c.py": "",
        "a.py": "",
        "q.py": "",
    }
    assert needed(tmp_path, files, "p/flow.py") == [
        "p/__init__.py",
        "p/a.py",
        "p/c.py",
        "p/flow.py",
        "p/q/__init__.py",
        "p/q/b.py",
    ]


def test_a_relative_import_beyond_the_root_adds_nothing(tmp_path):
    (tmp_path / "outside.py").touch()
    assert needed(tmp_path / "root", {"flow.py": f"from {'.' * 50} import x\nfrom .. import outside"}, "flow.py") == [
        "flow.py"
    ]


def test_a_package_brings_its_own_file_and_what_that_imports(tmp_path):
    files = {"flow.py": "import a.b.c", "a/__init__.py": "import d", "a/b/c.py": "", "d.py": ""}
    assert needed(tmp_path, files, "flow.py") == ["a/__init__.py", "a/b/c.py", "d.py", "flow.py"]


def test_star_imports_bring_the_submodules_that_are_exported(tmp_path):
    files = {"flow.py": "from a import *", "a/__init__.py": "__all__ = ['b']", "a/b.py": "", "a/c.py": ""}
    assert needed(tmp_path, files, "flow.py") == ["a/__init__.py", "a/b.py", "flow.py"]


def test_the_neighbour_comes_before_the_module_at_the_root(tmp_path):
    files = {"p/flow.py": "import helpers, shared", "p/helpers.py": "", "helpers.py": "", "shared.py": ""}
    assert needed(tmp_path, files, "p/flow.py") == ["p/flow.py", "p/helpers.py", "shared.py"]


def test_a_further_folder_is_searched_when_it_is_given(tmp_path):
    files = {"flow.py": "from mylib import io", "src/mylib/__init__.py": "", "src/mylib/io.py": ""}
    assert needed(tmp_path, files, "flow.py") == ["flow.py"]
    assert needed(tmp_path, files, "flow.py", "src") == ["flow.py", "src/mylib/__init__.py", "src/mylib/io.py"]


def test_libraries_are_left_out(tmp_path):
    files = {
        "flow.py": "import os, json, pytest, dagy\nfrom dagy import flow",
        "dagy/__init__.py": "",
        "lib/site-packages/thing.py": "",
    }
    assert needed(tmp_path, files, "flow.py") == ["flow.py"]
    files["flow.py"] = "import thing"
    assert needed(tmp_path, files, "flow.py", "lib/site-packages") == ["flow.py"]


def test_a_module_of_another_python_is_packed_and_not_followed(tmp_path):
    files = {"flow.py": "def f():\n    import old", "old.py": "print 'x'", "more.py": ""}
    assert needed(tmp_path, files, "flow.py") == ["flow.py", "old.py"]


def test_a_link_inside_of_the_root_is_packed_under_its_own_name(tmp_path):
    (tmp_path / "b.py").touch()
    (tmp_path / "a.py").symlink_to("b.py")
    assert needed(tmp_path, {"flow.py": "import a"}, "flow.py") == ["a.py", "flow.py"]


def test_a_link_out_of_the_root_is_refused(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.py").touch()
    (root / "a.py").symlink_to("../secret.py")
    with pytest.raises(FlowDefinitionError, match=r"root/a\.py is a link that leads out of .*root"):
        needed(root, {"flow.py": "import a"}, "flow.py")
