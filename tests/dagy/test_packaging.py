"""`dagy.packaging`: packing a flow, seen through what is in the zip and through another process that runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

import pytest

from dagy.errors import ConfigError, FlowDefinitionError, InvalidArtifact, LocalStoreError, ParameterError
from dagy.flow_artifact import open_artifact
from dagy.loader import load_flow
from dagy.packaging import BuiltArtifact, build_artifact

FLOW = """
import enum
from dataclasses import dataclass
from dagy import flow, task
import helpers
from shared import io

class Color(enum.Enum):
    RED = 1

@dataclass
class Point:
    x: int

@task
def extract(day, color, point):
    return [day, color.name, point.x, helpers.A, io.B]

@flow(version="1.2.0", tags={"team": "data"})
def daily(day: str = "2026-01-01"):
    return extract(day, Color.RED, Point(3))
"""

PROJECT = {"pipelines/daily.py": FLOW, "pipelines/helpers.py": "A = 1\n", "shared/io.py": "B = 2\n"}

EPOCH = "1760000000"


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch, tmp_path):
    """Forget what a test imported from its own folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name, module in sys.modules.items() if _place(module).startswith(str(tmp_path))]:
        del sys.modules[name]


def _place(module: object) -> str:
    return str(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), ""))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def build(
    root: Path, files: dict[str, str] | None = None, target: str = "pipelines/daily.py:daily", **arguments
) -> BuiltArtifact:
    """Write a project and build its flow with `root` as working directory and a fixed build time."""
    write(root, PROJECT if files is None else files)
    arguments = {"output_dir": root / "dist", "environ": {"SOURCE_DATE_EPOCH": EPOCH}, **arguments}
    return build_artifact(load_flow(target, cwd=root), cwd=root, **arguments)


def members(path: Path) -> dict[str, bytes]:
    """Return what is in a zip, in its order."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def python(code: str, *, cwd: Path, **environ: str) -> str:
    """Run code in a fresh Python and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env={**os.environ, "DAGY_LOCAL_DIR": str(cwd / "home"), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestContent:
    def test_is_the_source_what_it_imports_and_three_documents(self, tmp_path):
        write(tmp_path, {"pipelines/unused.py": "", "pipelines/data.csv": ""})
        built = build(tmp_path)
        sources = ["pipelines/daily.py", "pipelines/helpers.py", "shared/io.py"]
        assert built.files == tuple(sources)
        packed = members(built.path)
        assert sorted(packed) == sorted([*sources, "flow_spec.json", "manifest.json", "metadata.json"])
        assert packed["pipelines/daily.py"] == FLOW.encode()

    def test_metadata_describes_the_flow(self, tmp_path):
        built = build(tmp_path, {**PROJECT, "requirements.txt": "duckdb==1.4\n"})
        metadata = json.loads(members(built.path)["metadata.json"])
        assert metadata == {
            "flow_name": "daily",
            "flow_version": "1.2.0",
            "namespace": "pipelines",
            "entrypoint": "pipelines/daily.py:daily",
            "sys_path": ["pipelines", "."],
            "built_at": "2025-10-09T08:53:20Z",
            "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
            "dependencies": ["duckdb==1.4"],
            "code_hash": built.code_hash,
            "schema_version": 1,
        }
        assert re.fullmatch(r"[0-9a-f]{64}", built.code_hash)

    def test_manifest_lists_every_other_file(self, tmp_path):
        packed = members(build(tmp_path).path)
        listed = {each["path"]: each for each in json.loads(packed["manifest.json"])["files"]}
        assert set(listed) == set(packed) - {"manifest.json"}
        for name, each in listed.items():
            content = packed[name]
            assert (each["size_bytes"], each["sha256"]) == (len(content), sha256(content).hexdigest())

    def test_spec_is_the_graph_with_its_namespace_and_entrypoint(self, tmp_path):
        spec = open_artifact(build(tmp_path).path).spec
        assert (spec.name, spec.version, spec.namespace, spec.tags) == ("daily", "1.2.0", "pipelines", {"team": "data"})
        assert spec.entrypoint == "pipelines/daily.py:daily"
        assert spec.tasks["extract"].import_path == "pipelines.daily:extract"
        assert spec.task_runs[0].inputs["color"] == {"$enum": "pipelines.daily:Color", "name": "RED"}

    def test_namespace_and_tags_can_be_replaced(self, tmp_path):
        built = build(tmp_path, namespace="data/etl", tags={"a": "b"})
        spec = open_artifact(built.path).spec
        assert (built.namespace, spec.namespace, spec.tags) == ("data/etl", "data/etl", {"a": "b"})

    def test_namespace_of_the_flow_wins_over_its_folder(self, tmp_path):
        files = {"a/daily.py": "from dagy import flow\n@flow(namespace='x/y')\ndef daily(): ..."}
        assert build(tmp_path, files, "a/daily.py:daily").namespace == "x/y"

    def test_preview_is_built_with_parameters_over_the_example(self, tmp_path):
        files = {
            "daily.py": "from dagy import flow, task\n@task\ndef t(a, b): ...\n"
            "@flow(example={'a': 1, 'b': 2})\ndef daily(a: int, b: int): return t(a, b)"
        }
        built = build(tmp_path, files, "daily.py:daily", parameters={"b": 3})
        assert open_artifact(built.path).spec.task_runs[0].inputs == {"a": 1, "b": 3}

    def test_preview_without_a_required_parameter_is_refused(self, tmp_path):
        with pytest.raises(ParameterError, match="day"):
            build(tmp_path, {"daily.py": "from dagy import flow\n@flow\ndef daily(day): ..."}, "daily.py:daily")

    def test_a_folder_of_the_import_path_below_the_root_is_searched_too(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path / "src"))
        files = {"src/mylib/__init__.py": "X = 1", "src/unused.py": "", "daily.py": "import mylib" + EMPTY_FLOW}
        built = build(tmp_path, files, "daily.py:daily")
        assert built.files == ("daily.py", "src/mylib/__init__.py")
        assert built.metadata.sys_path == (".", "src")

    def test_a_task_of_a_module_that_no_statement_imports_is_packed(self, tmp_path):
        files = {
            "tasks_a.py": "from dagy import task\n@task\ndef t(): ...",
            "daily.py": "import importlib\nfrom dagy import flow\nm = importlib.import_module('tasks_' + 'a')\n"
            "@flow\ndef daily(): return m.t()",
        }
        assert build(tmp_path, files, "daily.py:daily").files == ("daily.py", "tasks_a.py")


EMPTY_FLOW = "\nfrom dagy import flow\n@flow\ndef daily(): ...\n"


class TestPlace:
    def test_is_a_folder_of_its_own_below_the_builds(self, tmp_path):
        built = build(
            tmp_path,
            {"daily.py": "from dagy import flow\n@flow(name='my flow')\ndef daily(): ..."},
            "daily.py:daily",
            output_dir=None,
            home=tmp_path / "home",
            now=lambda: datetime(2026, 3, 4, 12, tzinfo=timezone.utc),
            random_hex=lambda: "a1b2c3",
        )
        expected = tmp_path / "home/builds/my%20flow/my_flow-20260304T120000-a1b2c3/artifact.zip"
        assert (built.path, built.path.is_file()) == (expected, True)

    def test_follows_the_environment(self, tmp_path):
        built = build(tmp_path, output_dir=None, environ={"DAGY_LOCAL_DIR": str(tmp_path / "elsewhere")})
        assert built.path.is_relative_to(tmp_path / "elsewhere/builds/daily")

    def test_in_an_output_folder_replaces_the_older_artifact(self, tmp_path):
        write(tmp_path, {"dist/artifact.zip": "old", "dist/other.txt": ""})
        built = build(tmp_path)
        assert built.path == tmp_path / "dist/artifact.zip"
        assert open_artifact(built.path).metadata == built.metadata
        assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == ["artifact.zip", "other.txt"]

    def test_that_can_not_be_written_is_named(self, tmp_path):
        write(tmp_path, {"dist": ""})
        with pytest.raises(LocalStoreError, match="dist"):
            build(tmp_path)

    def test_is_what_the_path_protocol_gives(self, tmp_path):
        built = build(tmp_path)
        assert Path(built) == built.path


class TestReproducibility:
    def test_same_source_gives_the_same_bytes_elsewhere_later_and_with_another_umask(self, tmp_path):
        code = (
            "import os\nos.umask(0o{umask})\n"
            "from dagy.loader import load_flow\nfrom dagy import build_artifact\n"
            "build_artifact(load_flow('pipelines/daily.py:daily'), output_dir='dist')"
        )
        zips = []
        for folder, umask, seed in (("one", "022", "1"), ("two/deeper", "077", "2")):
            root = tmp_path / folder
            write(root, PROJECT)
            for number, name in enumerate(PROJECT):
                os.utime(root / name, (1_000_000_000 + number, 1_000_000_000 + number * int(seed)))
            python(code.replace("{umask}", umask), cwd=root, SOURCE_DATE_EPOCH=EPOCH, PYTHONHASHSEED=seed)
            zips.append((root / "dist/artifact.zip").read_bytes())
        assert zips[0] == zips[1]

    @pytest.mark.parametrize(
        ("epoch", "stamp", "built_at"),
        [
            ("0", (1980, 1, 1, 0, 0, 0), "1970-01-01T00:00:00Z"),
            ("1760000001", (2025, 10, 9, 8, 53, 20), "2025-10-09T08:53:21Z"),
            ("9999999999", (2107, 12, 31, 23, 59, 58), "2286-11-20T17:46:39Z"),
        ],
    )
    def test_entries_carry_the_build_time_and_one_mode(self, tmp_path, epoch, stamp, built_at):
        built = build(tmp_path, environ={"SOURCE_DATE_EPOCH": epoch})
        with zipfile.ZipFile(built.path) as archive:
            infos = archive.infolist()
        assert {info.date_time for info in infos} == {stamp}
        assert {info.external_attr >> 16 for info in infos} == {0o100644}
        assert [info.filename for info in infos] == sorted(info.filename for info in infos)
        assert built.metadata.built_at == built_at

    @pytest.mark.parametrize("epoch", ["yesterday", "-1", "1.5", "1" * 20])
    def test_a_malformed_epoch_is_refused(self, tmp_path, epoch):
        with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH must be whole seconds"):
            build(tmp_path, environ={"SOURCE_DATE_EPOCH": epoch})

    def test_without_a_repository_the_newest_file_gives_the_time(self, tmp_path):
        write(tmp_path, PROJECT)
        for number, name in enumerate(PROJECT):
            os.utime(tmp_path / name, (0, 1_600_000_000 + number))
        assert build_from_disk(tmp_path).metadata.built_at == "2020-09-13T12:26:42Z"

    def test_in_a_repository_the_last_commit_of_the_packed_files_gives_the_time(self, tmp_path):
        write(tmp_path, PROJECT)
        commit(tmp_path, "2024-01-01T00:00:00Z")
        write(tmp_path, {"README.md": "later"})
        commit(tmp_path, "2024-06-01T00:00:00Z")
        write(tmp_path, {"notes.txt": "not committed"})
        assert build_from_disk(tmp_path).metadata.built_at == "2024-01-01T00:00:00Z"

    @pytest.mark.parametrize("change", ["changed", "untracked", "ignored"])
    def test_in_a_repository_with_a_change_the_newest_file_gives_the_time(self, tmp_path, change):
        write(tmp_path, {name: text for name, text in PROJECT.items() if "helpers" not in name})
        write(tmp_path, {".gitignore": "helpers.py" if change == "ignored" else ""})
        if change == "changed":
            write(tmp_path, {"pipelines/helpers.py": "A = 0\n"})
        commit(tmp_path, "2024-01-01T00:00:00Z")
        write(tmp_path, {"pipelines/helpers.py": PROJECT["pipelines/helpers.py"]})
        for name in PROJECT:
            os.utime(tmp_path / name, (0, 1_600_000_000))
        assert build_from_disk(tmp_path).metadata.built_at == "2020-09-13T12:26:40Z"


def build_from_disk(root: Path) -> BuiltArtifact:
    return build_artifact(
        load_flow("pipelines/daily.py:daily", cwd=root), output_dir=root / "dist", cwd=root, environ={}
    )


def commit(root: Path, moment: str) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    for arguments in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "x"]):
        dates = {"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment}
        subprocess.run(["git", *arguments], cwd=root, env={**environ, **dates}, check=True)


class TestCodeHash:
    @pytest.mark.parametrize(
        "change",
        [
            {"files": {**PROJECT, "pipelines/helpers.py": "A = 2\n"}},
            {"files": {**PROJECT, "requirements.txt": "duckdb==1.4\n"}},
            {"parameters": {"day": "2026-02-02"}},
            {"tags": {"team": "other"}},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_changes_with_source_pins_and_spec(self, tmp_path, change):
        assert build(tmp_path / "a").code_hash != build(tmp_path / "b", **change).code_hash

    def test_does_not_change_with_time_place_or_what_is_not_imported(self, tmp_path):
        other = build(
            tmp_path / "b", {**PROJECT, "pipelines/new.py": "", "x.csv": ""}, environ={"SOURCE_DATE_EPOCH": "1"}
        )
        assert build(tmp_path / "a").code_hash == other.code_hash


class TestRefusal:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "def make():\n    @task\n    def t(): ...\n    return t\n@flow\ndef daily(): return make()()",
                "Task 't' can not be packed, because it is defined inside the function 'make'",
            ),
            (
                "@task\ndef t(): ...\nkeep = [t]\nt = 1\n@flow\ndef daily(): return keep[0]()",
                "Task 't' can not be packed, because 't' in the module 'daily' is something else",
            ),
        ],
    )
    def test_of_a_task_that_nothing_can_find(self, tmp_path, text, message):
        with pytest.raises(FlowDefinitionError, match=message):
            build(tmp_path, {"daily.py": f"from dagy import flow, task\n{text}"}, "daily.py:daily")

    def test_of_a_flow_inside_a_function(self, tmp_path):
        make = "def make():\n    @flow\n    def inner(): ...\n    return inner"
        write(tmp_path, {"daily.py": EMPTY_FLOW + make})
        inner = load_flow("daily.py:daily", cwd=tmp_path).fn.__globals__["make"]()
        with pytest.raises(FlowDefinitionError, match="Flow 'inner' can not be packed, because it is defined inside"):
            build_artifact(inner, cwd=tmp_path, output_dir=tmp_path)

    def test_of_what_is_too_large(self, tmp_path):
        with pytest.raises(InvalidArtifact, match="would hold 3 MB, and 2 MB is the limit"):
            build(tmp_path, {"daily.py": f"X = '{'x' * 3 * 2**20}'{EMPTY_FLOW}"}, "daily.py:daily", max_bytes=2 * 2**20)

    def test_of_a_link_out_of_the_root(self, tmp_path):
        write(tmp_path, {"outside.py": "A = 1", "root/daily.py": "import helpers" + EMPTY_FLOW})
        (tmp_path / "root/helpers.py").symlink_to("../outside.py")
        with pytest.raises(FlowDefinitionError, match="is a link that leads out of"):
            build(tmp_path / "root", {}, "daily.py:daily")

    def test_of_a_flow_without_a_file(self, tmp_path):
        code = (
            "from dagy import flow, build_artifact\n@flow\ndef daily(): ...\n"
            "try:\n    build_artifact(daily)\nexcept Exception as exc:\n    print(exc)"
        )
        assert (
            python(code, cwd=tmp_path) == "Flow 'daily' comes from no file, so it can not be packed; write it to one\n"
        )


def test_tasks_made_by_a_function_are_found_under_the_name_that_holds_them(tmp_path):
    files = {
        "factory.py": "from dagy import task\ndef make(n):\n    @task(name=n)\n    def t(): return n\n    return t",
        "daily.py": "from dagy import flow\nfrom factory import make\na = make('a')\nb = make('b')\n"
        "@flow\ndef daily(): return [a(), b()]",
    }
    spec = open_artifact(build(tmp_path, files, "daily.py:daily").path).spec
    assert {name: task.import_path for name, task in spec.tasks.items()} == {"a": "daily:a", "b": "daily:b"}


RUN_UNPACKED = """
from pathlib import Path
from dagy.flow_artifact import load_artifact_flow, open_artifact
open_artifact(Path("{zip}")).unpack(Path("unpacked"))
flow = load_artifact_flow(Path("unpacked"))
result = flow.run_local()
print(flow.fn.__module__, result.status, result.output())
"""


def run_unpacked(artifact: Path, folder: Path) -> str:
    """Unpack an artifact in a folder of its own, in a fresh process, and return what its flow gave there."""
    folder.mkdir()
    return python(RUN_UNPACKED.replace("{zip}", str(artifact)), cwd=folder).strip()


def test_another_process_runs_the_artifact_without_the_source(tmp_path):
    built = build(tmp_path / "project")
    (tmp_path / "project/pipelines").rename(tmp_path / "gone")
    expected = "pipelines.daily SUCCEEDED ['2026-01-01', 'RED', 3, 1, 2]"
    assert run_unpacked(built.path, tmp_path / "elsewhere") == expected


def test_another_process_runs_the_artifact_of_a_package(tmp_path):
    files = {
        "etl/__init__.py": "",
        "etl/types.py": "from .lib.deep import X",
        "etl/lib/deep.py": "X = 5",
        "etl/daily.py": "from dagy import flow, task\nfrom . import types\nimport etl.lib.deep\n"
        "@task\ndef t(): return types.X + etl.lib.deep.X\n@flow\ndef daily(): return t()",
    }
    built = build(tmp_path / "project", files, "etl/daily.py:daily")
    assert run_unpacked(built.path, tmp_path / "elsewhere") == "etl.daily SUCCEEDED 10"


def test_a_flow_of_the_main_module_is_packed_under_its_import_path(tmp_path):
    script = "\nif __name__ == '__main__':\n    import dagy\n    dagy.build_artifact(daily, output_dir='dist')\n"
    write(tmp_path, {**PROJECT, "pipelines/daily.py": FLOW + script})
    searched = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])  # `python <file>` leaves the root out
    environ = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "PYTHONPATH": searched}
    subprocess.run([sys.executable, "-W", "error", "pipelines/daily.py"], cwd=tmp_path, env=environ, check=True)
    from_main = (tmp_path / "dist/artifact.zip").read_bytes()
    built = build(tmp_path, {})
    assert built.path.read_bytes() == from_main
    assert b"__main__" not in members(built.path)["flow_spec.json"]


def test_building_needs_no_argument_but_the_flow(tmp_path):
    write(tmp_path, PROJECT)
    code = (
        "import dagy\nfrom dagy.loader import load_flow\n"
        "print(dagy.build_artifact(load_flow('pipelines/daily.py:daily')).path)"
    )
    path = Path(python(code, cwd=tmp_path).strip())
    assert path.is_relative_to(tmp_path / "home/builds/daily")
    assert open_artifact(path).metadata.namespace == "pipelines"
