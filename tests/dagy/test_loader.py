"""`dagy.loader`: from a target to a flow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy.errors import FlowFileNotFound, FlowImportError, FlowNotFound, InvalidTarget
from dagy.loader import load_flow, load_task, parse_target

FLOW = """
from dagy import flow, task

@task
def extract(day): return [day]

@flow
def daily(day: str = "2026-01-01"):
    return extract(day)
"""


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


class TestTarget:
    def test_is_a_path_and_a_name(self):
        assert parse_target("pipelines/daily.py:etl") == (Path("pipelines/daily.py"), "etl")

    def test_a_drive_letter_belongs_to_the_path(self):
        assert parse_target(r"C:\flows\daily.py:etl") == (Path(r"C:\flows\daily.py"), "etl")

    @pytest.mark.parametrize("text", ["", ":", "daily.py", "daily.py:", ":etl", "daily.py:e t l", r"C:\flows\daily.py"])
    def test_of_another_form_is_refused(self, text):
        with pytest.raises(InvalidTarget, match=r"^Flow target must be in <path>:<flow_fn> format$"):
            parse_target(text)

    @given(st.text(min_size=1), st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True).filter(str.isidentifier))
    def test_keeps_any_path(self, path, name):
        assert parse_target(f"{path}:{name}") == (Path(path), name)

    @given(st.text().filter(lambda text: ":" not in text))
    def test_without_a_colon_is_refused(self, text):
        with pytest.raises(InvalidTarget):
            parse_target(text)


class TestFlow:
    def test_has_the_import_path_of_its_file(self, tmp_path):
        write(tmp_path, {"pipelines/daily.py": FLOW})
        flow = load_flow("pipelines/daily.py:daily", cwd=tmp_path)
        assert flow.fn.__module__ == "pipelines.daily"
        assert flow.build().tasks["extract"].import_path == "pipelines.daily:extract"
        assert sys.modules["pipelines.daily"].daily is flow
        assert sys.modules["pipelines"].daily is sys.modules["pipelines.daily"]

    def test_imports_what_lies_next_to_it_and_below_the_root(self, tmp_path):
        write(tmp_path, {"pipelines/helpers.py": "A = 1", "shared/io.py": "B = 2"})
        write(tmp_path, {"pipelines/daily.py": "import helpers\nfrom shared import io\nC = helpers.A + io.B" + FLOW})
        assert sys.modules[load_flow("pipelines/daily.py:daily", cwd=tmp_path).fn.__module__].C == 3

    def test_in_a_package_imports_relatively(self, tmp_path):
        write(tmp_path, {"pipelines/__init__.py": "NAME = 'p'", "pipelines/helpers.py": "A = 1"})
        write(tmp_path, {"pipelines/daily.py": "from . import NAME\nfrom .helpers import A" + FLOW})
        module = sys.modules[load_flow("pipelines/daily.py:daily", cwd=tmp_path).fn.__module__]
        assert (module.NAME, module.A) == ("p", 1)

    def test_in_a_package_imports_its_neighbours_by_their_bare_name(self, tmp_path):
        write(tmp_path, {"pipelines/__init__.py": "", "pipelines/helpers.py": "A = 1"})
        write(tmp_path, {"pipelines/daily.py": "import helpers\nA = helpers.A" + FLOW})
        assert sys.modules[load_flow("pipelines/daily.py:daily", cwd=tmp_path).fn.__module__].A == 1

    def test_in_a_package_a_module_named_like_one_of_python_hides_nothing(self, tmp_path):
        write(tmp_path, {"pipelines/__init__.py": "", "pipelines/wave.py": "raise SystemExit"})
        write(tmp_path, {"pipelines/daily.py": "import wave\nwave.Wave_read" + FLOW})
        load_flow("pipelines/daily.py:daily", cwd=tmp_path)

    def test_may_have_the_name_of_its_folder(self, tmp_path):
        write(tmp_path, {"etl/etl.py": FLOW})
        assert load_flow("etl/etl.py:daily", cwd=tmp_path).fn.__module__ == "etl.etl"

    def test_may_stand_in_the_file_of_a_package(self, tmp_path):
        write(tmp_path, {"pipelines/__init__.py": "from .helpers import A" + FLOW, "pipelines/helpers.py": "A = 1"})
        assert load_flow("pipelines/__init__.py:daily", cwd=tmp_path).fn.__module__ == "pipelines"

    def test_may_lie_in_a_folder_named_like_an_installed_library(self, tmp_path):
        write(tmp_path, {"yaml/daily.py": "import yaml\nTEXT = yaml.safe_dump(1)" + FLOW})
        module = sys.modules[load_flow("yaml/daily.py:daily", cwd=tmp_path).fn.__module__]
        assert module.TEXT.startswith("1")

    def test_loaded_twice_is_the_same(self, tmp_path):
        write(tmp_path, {"daily.py": FLOW})
        assert load_flow("daily.py:daily", cwd=tmp_path) is load_flow(f"{tmp_path}/daily.py:daily", cwd=tmp_path)

    def test_of_a_changed_file_is_the_new_one(self, tmp_path):
        write(tmp_path, {"daily.py": FLOW})
        load_flow("daily.py:daily", cwd=tmp_path)
        write(tmp_path, {"daily.py": FLOW.replace("@flow", "@flow(version='2')")})
        assert load_flow("daily.py:daily", cwd=tmp_path).version == "2"

    def test_of_one_project_never_uses_modules_of_another(self, tmp_path):
        for name in ("one", "two"):
            write(tmp_path / name, {"daily.py": f"import helpers\nfrom lib import x\nNAME = helpers.N + x.N{FLOW}"})
            write(tmp_path / name, {"helpers.py": f"N = '{name}'", "lib/x.py": f"N = '{name}'"})
            flow = load_flow("daily.py:daily", cwd=tmp_path / name)
            assert flow.fn.__globals__["NAME"] == name * 2

    def test_name_that_is_unknown_gets_a_suggestion(self, tmp_path):
        write(tmp_path, {"daily.py": FLOW})
        with pytest.raises(FlowNotFound, match=r"Flow 'dayly' not found in .*daily.py; did you mean 'daily'\?"):
            load_flow("daily.py:dayly", cwd=tmp_path)
        with pytest.raises(FlowNotFound, match=r"Flow 'etl' not found in .*daily.py; its flows are: daily$"):
            load_flow("daily.py:etl", cwd=tmp_path)

    def test_name_in_a_file_without_flows_is_just_not_found(self, tmp_path):
        write(tmp_path, {"daily.py": ""})
        with pytest.raises(FlowNotFound, match=r"^Flow 'etl' not found in .*daily.py$"):
            load_flow("daily.py:etl", cwd=tmp_path)

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("def etl(): ...", "a plain function; decorate it with @flow"),
            ("from dagy import task\n@task\ndef etl(): ...", "a task; name a function that is decorated with @flow"),
            ("etl = 1", "a int; name a function decorated with @flow"),
        ],
    )
    def test_name_of_something_else_is_explained(self, tmp_path, text, what):
        write(tmp_path, {"daily.py": text})
        with pytest.raises(FlowNotFound) as caught:
            load_flow("daily.py:etl", cwd=tmp_path)
        assert str(caught.value) == f"'etl' in {tmp_path / 'daily.py'} is {what}"


class TestFile:
    def test_that_is_missing_is_named(self, tmp_path):
        with pytest.raises(FlowFileNotFound, match=f"^Flow file not found: {tmp_path}/daily.py$"):
            load_flow("daily.py:etl", cwd=tmp_path)

    @pytest.mark.parametrize(
        ("name", "why"), [("folder", "it is a folder, name a .py file in it"), ("a.txt", "it is not a .py file")]
    )
    def test_of_another_kind_is_refused(self, tmp_path, name, why):
        (tmp_path / "folder").mkdir()
        (tmp_path / "a.txt").touch()
        with pytest.raises(FlowImportError) as caught:
            load_flow(f"{name}:etl", cwd=tmp_path)
        assert str(caught.value) == f"Unable to load module from {tmp_path / name}: {why}"

    @pytest.mark.parametrize("name", ["json.py", "dagy.py", "my.flow.py", "pytest.py"])
    def test_that_can_not_be_imported_under_its_name_is_refused(self, tmp_path, name):
        (tmp_path / name).write_text(FLOW)
        with pytest.raises(FlowImportError, match="rename the file"):
            load_flow(f"{name}:daily", cwd=tmp_path)

    def test_that_raises_shows_the_frames_of_the_user_only(self, tmp_path):
        write(tmp_path, {"helpers.py": "def connect():\n    raise ConnectionError('no database')\n"})
        write(tmp_path, {"daily.py": "import helpers\nhelpers.connect()\n"})
        with pytest.raises(FlowImportError) as caught:
            load_flow("daily.py:daily", cwd=tmp_path)
        file = tmp_path / "daily.py"
        assert str(caught.value) == f"Unable to load module from {file}: ConnectionError: no database"
        frames = [line for line in caught.value.user_traceback.splitlines() if line.startswith("  File ")]
        assert frames == [
            f'  File "{file}", line 2, in <module>',
            f'  File "{tmp_path / "helpers.py"}", line 2, in connect',
        ]

    def test_with_a_wrong_setting_shows_no_frame_of_dagy(self, tmp_path):
        write(tmp_path, {"daily.py": "from dagy import task\nt = task(retries=-1)(len)\n"})
        with pytest.raises(FlowImportError, match="RetryConfigurationError: ") as caught:
            load_flow("daily.py:daily", cwd=tmp_path)
        frames = [line for line in caught.value.user_traceback.splitlines() if line.startswith("  File ")]
        assert frames == [f'  File "{tmp_path / "daily.py"}", line 2, in <module>']

    def test_with_a_syntax_error_shows_the_place(self, tmp_path):
        write(tmp_path, {"daily.py": "x = 1\ny = = 2\n"})
        with pytest.raises(FlowImportError, match="SyntaxError: invalid syntax") as caught:
            load_flow("daily.py:daily", cwd=tmp_path)
        lines = caught.value.user_traceback.splitlines()
        assert lines[0] == f'  File "{tmp_path / "daily.py"}", line 2'
        assert [line.strip() for line in lines[1:3]] == ["y = = 2", "^"]

    def test_that_exits_is_an_import_error(self, tmp_path):
        write(tmp_path, {"daily.py": "import sys\nsys.exit('bye')"})
        with pytest.raises(FlowImportError, match="SystemExit: bye"):
            load_flow("daily.py:daily", cwd=tmp_path)

    def test_that_failed_can_be_loaded_when_it_is_corrected(self, tmp_path):
        write(tmp_path, {"daily.py": "1 / 0"})
        with pytest.raises(FlowImportError, match="ZeroDivisionError"):
            load_flow("daily.py:daily", cwd=tmp_path)
        write(tmp_path, {"daily.py": FLOW})
        assert load_flow("daily.py:daily", cwd=tmp_path).name == "daily"


class TestTask:
    def test_is_found_by_its_import_path(self, tmp_path):
        write(tmp_path, {"pipelines/daily.py": FLOW})
        load_flow("pipelines/daily.py:daily", cwd=tmp_path)
        assert load_task("pipelines.daily:extract").name == "extract"

    @pytest.mark.parametrize(
        "path", ["pipelines.daily:load", "pipelines.daily:daily", "nowhere:extract", "extract", "pipelines.daily:"]
    )
    def test_that_is_not_there_is_named(self, tmp_path, path):
        write(tmp_path, {"pipelines/daily.py": FLOW})
        load_flow("pipelines/daily.py:daily", cwd=tmp_path)
        with pytest.raises(FlowImportError, match=f"^Could not resolve callable for task '{path}': "):
            load_task(path)
