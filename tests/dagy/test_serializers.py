"""Outputs that are not JSON: tables, pickles, folders, large files, and what users register."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections import namedtuple
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy import LocalArtifact, flow, task
from dagy.artifacts import INLINE_BYTES, RunOutputs
from dagy.errors import ArtifactSerializationError, FlowDefinitionError, TaskFailedError
from dagy.local.home import Home
from dagy.local.runner import run_local
from dagy.object_store import LocalObjectStore, ObjectStore
from dagy.serializers import Serializer, known_names, register_serializer, unregister_serializer
from dagy.testing import MemoryObjects, run_in_memory

MEBIBYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    """Forget what a test registered."""
    before = known_names()
    yield
    for name in set(known_names()) - set(before):
        unregister_serializer(name)


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return LocalObjectStore(tmp_path / "store") if request.param == "folder" else MemoryObjects()


@pytest.fixture
def outputs(objects: ObjectStore) -> RunOutputs:
    return RunOutputs(objects, "run")


class Text:
    """A class that no other serializer takes."""

    def __init__(self, text: str) -> None:
        self.text = text


class TextSerializer:
    """One that a user might write."""

    suffix = ".txt"
    media_type: str | None = "text/plain"

    def __init__(self, name: str, cls: type = Text) -> None:
        self.name = name
        self._cls = cls

    def accepts(self, value: Any) -> bool:
        return isinstance(value, self._cls)

    def dump(self, value: Any, path: Path) -> None:
        path.write_text(value.text)

    def load(self, path: Path) -> Any:
        return self._cls(path.read_text())


class TestJson:
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=100,
    )

    @given(json_values)
    def test_a_value_is_stored_as_its_json_text(self, value: Any) -> None:
        objects = MemoryObjects()
        output = RunOutputs(objects, "run").store("task-1", value)
        text = json.dumps(value)
        data = text.encode("utf-8", "surrogatepass")
        assert (output.serializer, output.name, output.media_type) == ("json", "output.json", "application/json")
        assert output.key == "artifacts/run/task-1/output.json"
        assert (output.size_bytes, output.sha256) == (len(data), sha256(data).hexdigest())
        assert output.inline == (text if len(data) <= INLINE_BYTES else None)
        if output.inline is None:
            assert objects.get(output.key) == data
        assert RunOutputs(objects, "run").load(output) == json.loads(text)

    def test_a_class_that_json_takes_stays_json(self, outputs: RunOutputs) -> None:
        point = namedtuple("point", "x y")
        assert outputs.load(outputs.store("task-1", point(1, 2))) == [1, 2]

    def test_what_nothing_takes_is_refused_with_the_ways_out(self, outputs: RunOutputs) -> None:
        with pytest.raises(ArtifactSerializationError) as caught:
            outputs.store("task-1", {"when": object()})
        message = str(caught.value)
        assert message.startswith("The output, of type dict, is not JSON-serialisable: Object of type object")
        assert "LocalArtifact" in message
        assert '@task(serializer="pickle")' in message

    def test_a_task_that_asks_for_json_gets_nothing_else(self, outputs: RunOutputs) -> None:
        with pytest.raises(ArtifactSerializationError, match="not JSON-serialisable"):
            outputs.store("task-1", pandas.DataFrame({"a": [1]}), serializer="json")


class TestParquet:
    def test_a_table_of_pyarrow_comes_back(self, outputs: RunOutputs) -> None:
        table = pyarrow.table({"a": [1, None], "b": ["x", "y"]}).replace_schema_metadata({"source": "tests"})
        output = outputs.store("task-1", table)
        assert (output.serializer, output.name) == ("parquet", "output.parquet")
        assert output.key == "artifacts/run/task-1/output.parquet"
        assert output.media_type == "application/vnd.apache.parquet"
        assert output.inline is None
        loaded = outputs.load(output)
        assert loaded.equals(table, check_metadata=True)

    def test_a_frame_of_pandas_comes_back_with_its_index(self, outputs: RunOutputs) -> None:
        days = pandas.to_datetime(["2026-01-01", "2026-01-02"]).rename("day")
        frame = pandas.DataFrame({"price": [1.5, None], "name": ["a", "b"]}, index=days)
        loaded = outputs.load(outputs.store("task-1", frame))
        assert type(loaded) is pandas.DataFrame
        pandas.testing.assert_frame_equal(loaded, frame)

    def test_the_size_and_hash_are_those_of_the_file(self, outputs: RunOutputs, objects: ObjectStore) -> None:
        output = outputs.store("task-1", pyarrow.table({"a": [1]}))
        content = objects.get(output.key)
        assert (output.size_bytes, output.sha256) == (len(content), sha256(content).hexdigest())

    def test_a_table_below_a_folder_that_looks_like_a_partition(self, tmp_path: Path) -> None:
        outputs = RunOutputs(LocalObjectStore(tmp_path / "day=2"), "run")
        table = pyarrow.table({"a": [1]})
        assert outputs.load(outputs.store("task-1", table)).column_names == ["a"]

    def test_a_frame_that_parquet_can_not_hold_is_named(self, outputs: RunOutputs) -> None:
        with pytest.raises(
            ArtifactSerializationError, match="type DataFrame, can not be stored by serializer 'parquet'"
        ):
            outputs.store("task-1", pandas.DataFrame({"a": [1, "x", {}]}))

    def test_a_value_that_is_no_table_is_refused_by_name(self, outputs: RunOutputs) -> None:
        with pytest.raises(
            ArtifactSerializationError, match="'parquet' does not take the output, which is of type list"
        ):
            outputs.store("task-1", [1], serializer="parquet")

    def test_without_pyarrow_the_message_says_what_to_install(
        self, outputs: RunOutputs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ArtifactSerializationError, match="pip install pyarrow"):
            outputs.store("task-1", pandas.DataFrame({"a": [1]}))

    def test_no_library_of_tables_is_loaded_for_other_values(self) -> None:
        source = (
            "import sys\n"
            "from dagy.artifacts import RunOutputs\n"
            "from dagy.testing import MemoryObjects\n"
            "outputs = RunOutputs(MemoryObjects(), 'run')\n"
            "outputs.load(outputs.store('a', {'x': [1]}))\n"
            "class pandas: pass\n"
            "pandas.__module__ = 'pandas.core.frame'\n"
            "try:\n    outputs.store('b', pandas())\nexcept RuntimeError: pass\n"
            "assert not {'pandas', 'polars', 'pyarrow', 'tempfile'} & sys.modules.keys()\n"
        )
        subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True)


class TestPickle:
    def test_only_a_task_that_asks_for_it_gets_it(self, tmp_path: Path) -> None:
        @task(serializer="pickle")
        def asks() -> Any:
            return {1, 2}

        @task
        def does_not_ask() -> Any:
            return {1, 2}

        @task
        def total(numbers: Any) -> int:
            assert type(numbers) is set
            return sum(numbers)

        @flow
        def asking() -> Any:
            return total(asks())

        @flow
        def not_asking() -> Any:
            return total(does_not_ask())

        result = run_local(asking, {}, home=tmp_path)
        assert result.output() == 3
        metadata = json.loads((tmp_path / "runs" / result.run_id / "task_runs/asks-1/metadata.json").read_text())
        assert metadata["output"]["serializer"] == "pickle"
        assert metadata["output"]["key"] == f"artifacts/{result.run_id}/asks-1/output.pickle"
        with pytest.raises(TaskFailedError, match="type set, is not JSON-serialisable"):
            run_local(not_asking, {}, home=tmp_path)

    def test_plain_json_is_pickled_too_when_asked_for(self, outputs: RunOutputs) -> None:
        output = outputs.store("task-1", {7: (1, 2)}, serializer="pickle")
        assert output.serializer == "pickle"
        assert outputs.load(output) == {7: (1, 2)}

    def test_each_consumer_gets_an_object_of_its_own(self, outputs: RunOutputs) -> None:
        output = outputs.store("task-1", {1, 2}, serializer="pickle")
        outputs.load(output).clear()
        assert outputs.load(output) == {1, 2}

    def test_what_can_not_be_pickled_fails_its_task(self, outputs: RunOutputs) -> None:
        with pytest.raises(ArtifactSerializationError, match="can not be stored by serializer 'pickle'"):
            outputs.store("task-1", lambda: None, serializer="pickle")

    def test_what_can_not_be_loaded_fails_its_consumer(self, tmp_path: Path) -> None:
        @task(serializer="pickle")
        def makes() -> Any:
            return Unloadable()

        @task
        def takes(value: Any) -> None: ...

        @flow
        def broken() -> None:
            takes(makes())

        with pytest.raises(
            TaskFailedError, match=r"Task takes failed: Input 'value' .* can not be loaded by serializer 'pickle'"
        ):
            run_local(broken, {}, home=tmp_path)

    def test_a_condition_on_an_object_without_a_truth_fails_its_task_run(self) -> None:
        @task
        def frame() -> Any:
            return pandas.DataFrame({"a": [1, 2]})

        @task
        def takes() -> None: ...

        @flow
        def asking() -> None:
            takes.options(when=frame())()

        result = run_in_memory(asking)
        assert result.statuses["takes-1"] == "FAILED"
        assert result.errors["takes-1"].startswith("The condition of takes-1 can not be decided: ValueError")


def _fail() -> None:
    raise ValueError("not here")


class Unloadable:
    def __reduce__(self) -> Any:
        return _fail, ()


class TestSetting:
    def test_an_unknown_name_is_refused_when_the_task_is_made(self) -> None:
        with pytest.raises(
            FlowDefinitionError,
            match=r"serializer of task 'late' must be one of json, parquet, pickle.*, got 'pikle'; .*register_serial",
        ):

            @task(serializer="pikle")
            def late() -> None: ...

    def test_one_that_was_registered_before_is_known(self) -> None:
        register_serializer(TextSerializer("setting-text"))

        @task(serializer="setting-text")
        def writes() -> Any:
            return Text("a")

        assert writes.serializer == "setting-text"

    def test_items_of_a_map_are_stored_by_it(self) -> None:
        @task(serializer="pickle")
        def pair(number: int) -> Any:
            return {number}

        @task
        def join(sets: list) -> list:
            return sorted(set().union(*sets))

        @flow
        def mapped() -> Any:
            return join(pair.map([1, 2]))

        assert run_in_memory(mapped).output == [1, 2]


class TestRegistered:
    def test_it_takes_what_it_accepts(self, outputs: RunOutputs) -> None:
        register_serializer(TextSerializer("own-text"))
        output = outputs.store("task-1", Text("hello"))
        assert (output.serializer, output.name, output.media_type) == ("own-text", "output.txt", "text/plain")
        assert output.size_bytes == 5
        assert outputs.load(output).text == "hello"

    def test_it_takes_a_list_that_is_not_json_and_leaves_json_alone(self, outputs: RunOutputs) -> None:
        class Sets(TextSerializer):
            def accepts(self, value: Any) -> bool:
                return isinstance(value, list) and any(isinstance(each, frozenset) for each in value)

            def dump(self, value: Any, path: Path) -> None:
                path.write_text(json.dumps([sorted(each) for each in value]))

            def load(self, path: Path) -> Any:
                return [frozenset(each) for each in json.loads(path.read_text())]

        register_serializer(Sets("sets"))
        value = [frozenset({1, 2}), frozenset()]
        assert outputs.load(outputs.store("task-1", value)) == value
        assert outputs.store("task-2", [[1]]).serializer == "json"

    def test_it_goes_before_parquet(self, outputs: RunOutputs) -> None:
        class Mine(TextSerializer):
            def accepts(self, value: Any) -> bool:
                return isinstance(value, pandas.DataFrame) and value.attrs.get("mine") is True

            def dump(self, value: Any, path: Path) -> None:
                path.write_text("mine")

        register_serializer(Mine("mine"))
        frame = pandas.DataFrame({"a": [1]})
        assert outputs.store("task-1", frame).serializer == "parquet"
        frame.attrs["mine"] = True
        assert outputs.store("task-1", frame).serializer == "mine"

    def test_the_last_one_is_asked_first_and_one_of_the_same_name_replaced(self, outputs: RunOutputs) -> None:
        class Note(Text):
            pass

        register_serializer(TextSerializer("first", Note))
        register_serializer(TextSerializer("second", Note))
        assert outputs.store("task-1", Note("a")).serializer == "second"
        register_serializer(TextSerializer("first", Note))
        assert outputs.store("task-1", Note("a")).serializer == "first"
        assert known_names().count("first") == 1

    @pytest.mark.parametrize("name", ["json", "parquet", "pickle", "file", "folder", "map"])
    def test_built_in_names_are_kept(self, name: str) -> None:
        with pytest.raises(FlowDefinitionError, match="is built in"):
            register_serializer(TextSerializer(name))

    @pytest.mark.parametrize("name", ["", "a b", "../up", "x" * 64, 7])
    def test_a_name_that_is_none_is_refused(self, name: Any) -> None:
        with pytest.raises(FlowDefinitionError, match="name of a serializer must be"):
            register_serializer(TextSerializer(name))

    @pytest.mark.parametrize("suffix", ["npy", "", "./up", ".a b", None])
    def test_a_suffix_that_is_none_is_refused(self, suffix: Any) -> None:
        serializer = TextSerializer("suffixed")
        serializer.suffix = suffix
        with pytest.raises(FlowDefinitionError, match="suffix of serializer 'suffixed' must be like"):
            register_serializer(serializer)

    def test_what_is_missing_is_named(self) -> None:
        class Half:
            name = "half"
            suffix = ".half"
            dump = None

        with pytest.raises(FlowDefinitionError, match="has no media_type, accepts, dump, load"):
            register_serializer(Half())  # type: ignore[arg-type]

    def test_one_that_raises_or_writes_nothing_is_named(self, outputs: RunOutputs) -> None:
        class Odd(Text):
            pass

        class Broken(TextSerializer):
            def accepts(self, value: Any) -> bool:
                if isinstance(value, Odd) and value.text == "accepts":
                    raise KeyError("no")
                return isinstance(value, Odd)

            def dump(self, value: Any, path: Path) -> None:
                if value.text == "dump":
                    raise OSError("no")

        register_serializer(Broken("broken"))
        with pytest.raises(ArtifactSerializationError, match=r"'broken' failed when it was asked .* KeyError"):
            outputs.store("task-1", Odd("accepts"))
        with pytest.raises(ArtifactSerializationError, match="can not be stored by serializer 'broken': OSError: no"):
            outputs.store("task-1", Odd("dump"))
        with pytest.raises(ArtifactSerializationError, match="'broken' wrote no file"):
            outputs.store("task-1", Odd("nothing"))

    def test_an_output_of_one_that_is_not_known_here_is_named(self, tmp_path: Path) -> None:
        serializer: Serializer = TextSerializer("elsewhere")
        register_serializer(serializer)
        outputs = RunOutputs(LocalObjectStore(tmp_path), "run")
        output = outputs.store("task-1", Text("a"), serializer="elsewhere")
        source = (
            "import json, sys\nfrom pathlib import Path\n"
            "from dagy.artifacts import Output, RunOutputs\nfrom dagy.object_store import LocalObjectStore\n"
            "outputs = RunOutputs(LocalObjectStore(Path(sys.argv[1])), 'run')\n"
            "try:\n    outputs.load(Output(**json.loads(sys.argv[2])))\nexcept RuntimeError as exc:\n    print(exc)\n"
        )
        facts = {"key": output.key, "serializer": output.serializer, "size_bytes": 1, "sha256": output.sha256}
        done = subprocess.run(
            [sys.executable, "-c", source, str(tmp_path), json.dumps(facts)], check=True, capture_output=True, text=True
        )
        assert done.stdout.startswith("Serializer 'elsewhere' is not known here; import the module that registers it")


class TestFolders:
    @pytest.mark.parametrize("names", [["a.txt", "below/b.txt"], ["grüße.txt", "a b/c d"], ["one"], []])
    def test_all_files_of_a_folder_come_back(self, outputs: RunOutputs, tmp_path: Path, names: list[str]) -> None:
        folder = tmp_path / "plots"
        folder.mkdir()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"this is {name}")
        output = outputs.store("task-1", LocalArtifact(folder, "text/plain"))
        assert (output.serializer, output.name, output.media_type) == ("folder", "plots", "text/plain")
        assert output.size_bytes == sum(len(f"this is {name}".encode()) for name in names)
        loaded = outputs.load(output)
        assert loaded.is_folder
        assert loaded.path != folder
        assert (loaded.name, loaded.size_bytes) == ("plots", output.size_bytes)
        found = {path.relative_to(loaded.path).as_posix() for path in loaded.path.rglob("*") if path.is_file()}
        assert found == set(names)
        assert all((loaded.path / name).read_text() == f"this is {name}" for name in names)

    def test_a_folder_that_was_consumed_can_be_returned(self, outputs: RunOutputs, tmp_path: Path) -> None:
        (tmp_path / "plots").mkdir()
        (tmp_path / "plots" / "é.txt").write_text("é")
        loaded = outputs.load(outputs.store("task-1", LocalArtifact(tmp_path / "plots")))
        again = outputs.load(outputs.store("task-2", loaded))
        assert (again.path / "é.txt").read_text() == "é"
        assert again.name == "plots"

    def test_files_of_an_earlier_attempt_are_not_seen(self, outputs: RunOutputs, tmp_path: Path) -> None:
        (tmp_path / "plots").mkdir()
        for name in ("first", "second"):
            (tmp_path / "plots" / name).write_text(name)
            output = outputs.store("task-1", LocalArtifact(tmp_path / "plots"))
            assert [path.name for path in outputs.load(output).path.iterdir()] == [name]
            (tmp_path / "plots" / name).unlink()

    def test_the_same_folder_has_the_same_hash(self, outputs: RunOutputs, tmp_path: Path) -> None:
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a").write_text("a")
        hashes = {outputs.store("task-1", LocalArtifact(tmp_path / folder)).sha256 for folder in ("one", "two")}
        assert len(hashes) == 1
        (tmp_path / "two" / "a").write_text("b")
        assert outputs.store("task-1", LocalArtifact(tmp_path / "two")).sha256 not in hashes

    def test_a_link_to_a_folder_is_refused(self, outputs: RunOutputs, tmp_path: Path) -> None:
        (tmp_path / "plots").mkdir()
        (tmp_path / "plots" / "up").symlink_to(tmp_path)
        with pytest.raises(ArtifactSerializationError, match="is a link to a folder"):
            outputs.store("task-1", LocalArtifact(tmp_path / "plots"))

    def test_text_that_is_named_like_a_folder_is_text(
        self, outputs: RunOutputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "notes").mkdir()
        output = outputs.store("task-1", LocalArtifact.from_text("text", name="notes"))
        assert (output.serializer, outputs.load(output).read_text()) == ("file", "text")

    def test_it_is_taken_from_the_cache(self, tmp_path: Path) -> None:
        @task(cache="inputs")
        def draws() -> LocalArtifact:
            (tmp_path / "plots").mkdir()
            (tmp_path / "plots" / "ä.svg").write_text("<svg/>")
            return LocalArtifact(tmp_path / "plots")

        @task
        def looks(plots: LocalArtifact) -> list:
            return [[path.name, path.read_text()] for path in plots.path.iterdir()]

        @flow
        def drawing() -> Any:
            return looks(draws())

        for _ in range(2):  # the second time, draws() would raise
            assert run_local(drawing, {}, home=tmp_path / "home").output() == [["ä.svg", "<svg/>"]]

    def test_it_travels_through_a_run(self, tmp_path: Path) -> None:
        @task
        def draws() -> LocalArtifact:
            (tmp_path / "plots").mkdir()
            (tmp_path / "plots" / "a.svg").write_text("<svg/>")
            return LocalArtifact(tmp_path / "plots")

        @task
        def looks(plots: LocalArtifact) -> list:
            return [path.name for path in plots.path.iterdir()]

        @flow
        def drawing() -> Any:
            return looks(draws())

        result = run_local(drawing, {}, home=tmp_path / "home")
        assert result.output() == ["a.svg"]
        stored = tmp_path / "home" / "artifacts" / result.run_id / "draws-1"
        assert (stored / "plots" / "files" / "a.svg").read_text() == "<svg/>"
        assert list(json.loads((stored / "plots" / "files.json").read_text())["files"]) == ["a.svg"]


class TestFiles:
    def test_a_large_file_is_never_in_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "large.bin"
        with path.open("wb") as file:
            for number in range(20):
                file.write(bytes([number]) * MEBIBYTE)
        outputs = RunOutputs(LocalObjectStore(tmp_path / "store"), "run", max_bytes=30 * MEBIBYTE)
        tracemalloc.start()
        try:
            output = outputs.store("task-1", LocalArtifact(path))
            loaded = outputs.load(output)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 5 * MEBIBYTE
        assert output.size_bytes == loaded.size_bytes == 20 * MEBIBYTE
        assert output.sha256 == sha256(path.read_bytes()).hexdigest() == sha256(loaded.read_bytes()).hexdigest()

    def test_the_stored_file_does_not_follow_the_source(self, outputs: RunOutputs, tmp_path: Path) -> None:
        path = tmp_path / "report.txt"
        path.write_text("then")
        output = outputs.store("task-1", LocalArtifact(path))
        with path.open("r+") as file:
            file.write("now!")
        assert outputs.load(output).read_text() == "then"

    def test_what_is_no_file_is_refused_at_once(self, outputs: RunOutputs, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ArtifactSerializationError, match="neither a file nor a folder"):
            outputs.store("task-1", LocalArtifact(tmp_path / "pipe"))

    def test_a_file_that_changes_while_it_is_stored_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "growing.log"
        path.write_text("one\n")

        class WritesMeanwhile(MemoryObjects):
            def put_file(self, key: str, path: Path) -> None:
                super().put_file(key, path)
                with path.open("a") as file:
                    file.write("two\n")

        with pytest.raises(ArtifactSerializationError, match=r"growing.log' changed while it was stored"):
            RunOutputs(WritesMeanwhile(), "run").store("task-1", LocalArtifact(path))

    def test_files_can_be_read_in_memory_runs(self, tmp_path: Path) -> None:
        @task
        def writes() -> LocalArtifact:
            return LocalArtifact.from_text("hello", name="a.txt")

        @task
        def reads(file: LocalArtifact) -> str:
            return file.read_text() + file.path.read_text()

        @flow
        def files() -> Any:
            return reads(writes())

        assert run_in_memory(files).output == "hellohello"


class Refusing(MemoryObjects):
    """A store that must not be written to."""

    def put(self, key: str, data: bytes) -> None:
        pytest.fail(f"{key} was stored")

    def put_file(self, key: str, path: Path) -> None:
        pytest.fail(f"{key} was stored")


class TestLimit:
    @pytest.mark.parametrize("kind", ["json", "file", "folder", "parquet", "pickle", "own"])
    def test_it_holds_for_every_serializer_before_anything_is_stored(self, tmp_path: Path, kind: str) -> None:
        register_serializer(TextSerializer("limit-text"))
        (tmp_path / "folder").mkdir()
        for name in ("a", "b"):
            (tmp_path / "folder" / name).write_text("x" * 600)
        (tmp_path / "file").write_text("x" * 1200)
        values: dict[str, tuple[Any, str | None]] = {
            "json": ("x" * 1200, None),
            "file": (LocalArtifact(tmp_path / "file"), None),
            "folder": (LocalArtifact(tmp_path / "folder"), None),
            "parquet": (pyarrow.table({"a": list(range(1000))}), None),
            "pickle": ("x" * 1200, "pickle"),
            "own": (Text("x" * 1200), "limit-text"),
        }
        value, serializer = values[kind]
        outputs = RunOutputs(Refusing(), "run", max_bytes=1000)
        with pytest.raises(ArtifactSerializationError, match=r"The output has [\d,]+ bytes and the limit is 1,000"):
            outputs.store("task-1", value, serializer=serializer)

    def test_it_is_raised_by_the_setting(self, tmp_path: Path) -> None:
        @task
        def table() -> Any:
            return pandas.DataFrame({"a": range(1000)})

        @flow
        def tables() -> Any:
            return table()

        small = Home.from_environ({"DAGY_LOCAL_ARTIFACT_MAX_BYTES": "1000"}, tmp_path)
        with pytest.raises(TaskFailedError, match="the limit is 1,000"):
            run_local(tables, {}, home=small)
        large = Home.from_environ({"DAGY_LOCAL_ARTIFACT_MAX_BYTES": "100000"}, tmp_path)
        assert len(run_local(tables, {}, home=large).output()) == 1000
