"""`dagy.flow_artifact`: nothing in a zip is believed before it has been checked."""

from __future__ import annotations

import json
import stat
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy.errors import ArtifactNotFound, FlowImportError, FlowNotFound, InvalidArtifact, LocalStoreError
from dagy.flow_artifact import ArtifactMetadata, load_artifact_flow, open_artifact
from dagy.spec import FlowSpec

METADATA = ArtifactMetadata(
    flow_name="daily",
    flow_version="1",
    namespace="etl",
    entrypoint="p/daily.py:daily",
    sys_path=("p", "."),
    built_at="2026-03-04T12:00:00Z",
    python_version="3.12",
    dependencies=("duckdb==1.4",),
    code_hash="ab" * 32,
)

SOURCE = b"from dagy import flow\nimport helpers\n\n@flow\ndef daily(): ...\n"


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch, tmp_path):
    """Forget what a test imported from its own folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name, module in sys.modules.items() if _place(module).startswith(str(tmp_path))]:
        del sys.modules[name]


def _place(module: object) -> str:
    return str(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), ""))


def contents() -> dict[str, bytes]:
    """Return the files of a good artifact, without its manifest."""
    return {
        "flow_spec.json": "".join(FlowSpec(name="daily", version="1").to_json_lines()).encode(),
        "metadata.json": METADATA.to_json().encode(),
        "p/daily.py": SOURCE,
        "p/helpers.py": b"A = 1\n",
    }


def manifest_of(files: dict[str, bytes]) -> bytes:
    listed = [
        {"path": name, "size_bytes": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    return json.dumps({"schema_version": 1, "files": listed}).encode()


def pack(
    folder: Path, files: dict[str, bytes], *, manifest: bytes | None = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    """Write an artifact of these files with a manifest that fits, or with another one."""
    path = folder / "artifact.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("manifest.json", manifest_of(files) if manifest is None else manifest)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_intact_artifact_says_what_it_holds(tmp_path, compression):
    artifact = open_artifact(pack(tmp_path, contents(), compression=compression))
    assert artifact.metadata == METADATA
    assert (artifact.spec.name, artifact.spec.version) == ("daily", "1")
    assert artifact.files == ("flow_spec.json", "manifest.json", "metadata.json", "p/daily.py", "p/helpers.py")


def test_unpacking_gives_the_files_and_the_flow(tmp_path):
    artifact = open_artifact(pack(tmp_path, contents()))
    folder = tmp_path / "deep/unpacked"
    artifact.unpack(folder)
    assert {name: (folder / name).read_bytes() for name in contents()} == contents()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    flow = load_artifact_flow(folder)
    assert (flow.name, flow.fn.__module__) == ("daily", "p.daily")


def test_keys_of_a_newer_writer_are_kept():
    document = {**json.loads(METADATA.to_json()), "new": [1]}
    metadata = ArtifactMetadata.from_json(json.dumps(document))
    assert metadata.extra == {"new": [1]}
    assert json.loads(metadata.to_json()) == document


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactNotFound, match=f"^Artifact not found: {tmp_path}/artifact.zip$"):
        open_artifact(tmp_path / "artifact.zip")


def refusal(path: Path, **arguments: int) -> str:
    with pytest.raises(InvalidArtifact) as caught:
        open_artifact(path, **arguments)
    return str(caught.value).removeprefix(str(path)).removeprefix(" is not an intact artifact: ")


class TestRefused:
    def test_is_a_folder(self, tmp_path):
        assert refusal(tmp_path) == " is a folder, not an artifact"

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + b"\xff" * 18])
    def test_is_what_is_no_zip(self, tmp_path, content):
        (tmp_path / "artifact.zip").write_bytes(content)
        assert "is not an artifact, it can not be read as a zip file" in refusal(tmp_path / "artifact.zip")

    @pytest.mark.parametrize(
        "name",
        ["/etc/passwd", "../x.py", "p/../../x.py", "p//x.py", "./x.py", "p/", "p/..", "C:/x.py", "p\\x.py", "a\nb.py"],
    )
    def test_is_a_hostile_name(self, tmp_path, name):
        text = refusal(pack(tmp_path, {**contents(), name: b"x"}))
        assert text.startswith(f"the entry {name!r} ")

    def test_is_a_name_with_a_hidden_end(self, tmp_path):
        path = pack(tmp_path, {**contents(), "p/x.py_.py": b"x"})
        path.write_bytes(path.read_bytes().replace(b"p/x.py_.py", b"p/x.py\x00.py"))
        assert "p/x.py\\x00.py" in refusal(path)

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
    def test_is_what_is_no_plain_file(self, tmp_path, kind):
        path = tmp_path / "artifact.zip"
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo("p/link.py")
            info.create_system = 3
            info.external_attr = (kind | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        assert refusal(path) == "the entry 'p/link.py' is a link or another special file"

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_is_a_name_that_occurs_twice(self, tmp_path):
        path = pack(tmp_path, contents())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("p/daily.py", "import evil")
        assert refusal(path) == "the entry 'p/daily.py' occurs twice"

    def test_is_a_file_inside_of_a_file(self, tmp_path):
        assert refusal(pack(tmp_path, {**contents(), "p": b""})).endswith(" lies in a file")

    def test_is_more_than_the_limit(self, tmp_path):
        path = pack(tmp_path, {**contents(), "bomb.py": b"#" * 3 * 2**20}, compression=zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 100_000
        assert refusal(path, max_bytes=2**20) == "it holds 3 MB, and 1 MB is the limit"

    def test_is_another_compression(self, tmp_path):
        text = refusal(pack(tmp_path, contents(), compression=zipfile.ZIP_LZMA))
        assert text == "the entry 'flow_spec.json' is encrypted or compressed in a way that no artifact uses"

    def test_is_a_file_that_was_changed(self, tmp_path):
        path = pack(tmp_path, {**contents(), "p/daily.py": b"import evil"}, manifest=manifest_of(contents()))
        assert refusal(path) == "'p/daily.py' is not the file that manifest.json describes"

    def test_is_a_file_that_was_damaged(self, tmp_path):
        path = pack(tmp_path, contents())
        path.write_bytes(path.read_bytes().replace(b"import helpers", b"import h3lpers"))
        assert refusal(path).startswith("'p/daily.py' can not be read: Bad CRC-32")

    def test_is_a_file_too_many(self, tmp_path):
        path = pack(tmp_path, {**contents(), "p/evil.py": b""}, manifest=manifest_of(contents()))
        assert refusal(path) == "'p/evil.py' is not listed in manifest.json"

    def test_is_a_file_that_is_missing(self, tmp_path):
        files = contents()
        del files["p/helpers.py"]
        path = pack(tmp_path, files, manifest=manifest_of(contents()))
        assert refusal(path) == "'p/helpers.py' is missing, manifest.json lists it"

    @pytest.mark.parametrize("name", ["flow_spec.json", "metadata.json"])
    def test_is_an_artifact_without_one_of_its_documents(self, tmp_path, name):
        files = contents()
        del files[name]
        assert refusal(pack(tmp_path, files)) == f"'{name}' is missing"

    def test_is_a_zip_without_a_manifest(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "artifact.zip", "w") as archive:
            archive.writestr("x.py", "")
        assert refusal(tmp_path / "artifact.zip") == " is not an artifact: 'manifest.json' is missing"

    @pytest.mark.parametrize("text", [b"", b"[]", b'{"files": 1}', b'{"files": [{"path": []}]}', b"[" * 100_000])
    def test_is_a_malformed_manifest(self, tmp_path, text):
        assert refusal(pack(tmp_path, contents(), manifest=text)) == "manifest.json is malformed"

    @pytest.mark.parametrize("name", ["flow_spec.json", "metadata.json"])
    @pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"schema_version": 99}', b"\xff", b"[" * 100_000])
    def test_is_a_malformed_document(self, tmp_path, name, text):
        assert refusal(pack(tmp_path, {**contents(), name: text})).startswith(f"{name} is malformed: ")

    @given(st.data())
    def test_is_any_damage_that_changes_the_content(self, tmp_path_factory, data):
        folder = tmp_path_factory.mktemp("damaged")
        path = pack(folder, contents())
        whole = path.read_bytes()
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else damaged)
        try:
            open_artifact(path).unpack(folder / "unpacked")
        except InvalidArtifact:
            return
        assert {name: (folder / "unpacked" / name).read_bytes() for name in contents()} == contents()


class TestUnpacking:
    def test_into_a_folder_that_holds_something_is_refused(self, tmp_path):
        artifact = open_artifact(pack(tmp_path, contents()))
        with pytest.raises(InvalidArtifact, match="which is not empty"):
            artifact.unpack(tmp_path)

    def test_where_nothing_can_be_written_is_named(self, tmp_path):
        artifact = open_artifact(pack(tmp_path, contents()))
        (tmp_path / "file").touch()
        with pytest.raises(LocalStoreError, match=r"can not be unpacked to .*file/x"):
            artifact.unpack(tmp_path / "file/x")

    def test_of_what_was_replaced_since_is_checked_again(self, tmp_path):
        artifact = open_artifact(pack(tmp_path, contents()))
        pack(tmp_path, {**contents(), "p/daily.py": b"import evil"}, manifest=manifest_of(contents()))
        with pytest.raises(InvalidArtifact, match="is not the file that"):
            artifact.unpack(tmp_path / "unpacked")
        assert not (tmp_path / "unpacked").exists()


class TestLoading:
    def load(self, tmp_path: Path, files: dict[str, bytes]) -> object:
        open_artifact(pack(tmp_path, files)).unpack(tmp_path / "unpacked")
        return load_artifact_flow(tmp_path / "unpacked")

    @pytest.mark.parametrize(
        "change",
        [{"entrypoint": "p/other.py:daily"}, {"entrypoint": "../x.py:daily"}, {"sys_path": ["/"]}, {"sys_path": ["q"]}],
    )
    def test_of_what_is_not_there_is_refused(self, tmp_path, change):
        metadata = json.dumps({**json.loads(METADATA.to_json()), **change}).encode()
        with pytest.raises(InvalidArtifact, match="which is not there"):
            self.load(tmp_path, {**contents(), "metadata.json": metadata})

    def test_of_a_folder_without_an_artifact_is_refused(self, tmp_path):
        with pytest.raises(InvalidArtifact, match="holds no unpacked artifact"):
            load_artifact_flow(tmp_path)

    def test_of_source_that_raises_says_so(self, tmp_path):
        with pytest.raises(FlowImportError, match="ZeroDivisionError"):
            self.load(tmp_path, {**contents(), "p/daily.py": b"1 / 0"})

    def test_of_source_without_the_flow_says_so(self, tmp_path):
        with pytest.raises(FlowNotFound):
            self.load(tmp_path, {**contents(), "p/daily.py": b""})
