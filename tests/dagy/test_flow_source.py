"""`dagy.flow_source`: what follows from where a flow's file lies."""

from __future__ import annotations

import pathlib
from pathlib import Path

import pytest

from dagy.flow_source import find_module, is_installed, locate


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class TestLocation:
    def test_below_the_working_directory_it_counts_from_there(self, tmp_path):
        write(tmp_path, {"data/ingestion/load.py": ""})
        source = locate(tmp_path / "data/ingestion/load.py", cwd=tmp_path)
        assert (source.root, source.path, source.module) == (tmp_path, "data/ingestion/load.py", "data.ingestion.load")
        assert source.namespace == "data/ingestion"
        assert source.folders == (tmp_path / "data/ingestion", tmp_path)

    def test_at_the_working_directory_the_namespace_is_empty(self, tmp_path):
        write(tmp_path, {"load.py": ""})
        assert locate(tmp_path / "load.py", cwd=tmp_path).namespace == ""

    def test_elsewhere_it_counts_from_the_repository(self, tmp_path):
        (tmp_path / "repo/.git").mkdir(parents=True)
        write(tmp_path, {"repo/data/load.py": "", "other/x.py": ""})
        source = locate(tmp_path / "repo/data/load.py", cwd=tmp_path / "other")
        assert (source.root, source.namespace) == (tmp_path / "repo", "data")

    def test_elsewhere_without_a_repository_it_counts_from_its_own_folder(self, tmp_path):
        write(tmp_path, {"data/load.py": "", "other/x.py": ""})
        source = locate(tmp_path / "data/load.py", cwd=tmp_path / "other")
        assert (source.root, source.namespace, source.module) == (tmp_path / "data", "", "load")

    @pytest.mark.parametrize("folder", ["v1.2", "json", "dagy"])
    def test_a_folder_that_can_not_be_imported_is_left_out(self, tmp_path, folder):
        (tmp_path / folder).mkdir()
        assert locate(tmp_path / folder / "load.py", cwd=tmp_path).module == "load"


class TestModuleSearch:
    def test_prefers_the_first_folder_with_a_file(self, tmp_path):
        write(tmp_path, {"a/x.py": "", "b/x.py": ""})
        (tmp_path / "c/x").mkdir(parents=True)
        found = find_module("x", [tmp_path / "c", tmp_path / "b", tmp_path / "a"])
        assert found is not None
        assert found.file == tmp_path / "b/x.py"

    def test_joins_folders_without_a_package_file(self, tmp_path):
        write(tmp_path, {"a/x/one.py": "", "b/x/two.py": ""})
        found = find_module("x", [tmp_path / "a", tmp_path / "b"])
        assert found is not None
        assert (found.file, found.folders) == (None, (tmp_path / "a/x", tmp_path / "b/x"))

    def test_finds_nothing_for_an_unknown_name(self, tmp_path):
        assert find_module("x", [tmp_path, tmp_path / "missing"]) is None


@pytest.mark.parametrize(
    ("path", "installed"),
    [
        (Path(pytest.__file__), True),
        (Path(pathlib.__file__), True),
        (Path("project/.venv/lib/site-packages/x.py"), True),
        (Path(__file__), False),
        (Path("site-packages-of-mine/x.py"), False),
    ],
)
def test_libraries_are_told_from_a_project(path, installed):
    assert is_installed(path) is installed
