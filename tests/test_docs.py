"""The documentation is complete and holds together: names, commands, variables, modules, schema, links.

What the pages say is executed in `test_docs_pages.py`.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

import dagy
from dagy import Flow, FlowSpec, allow_failed, choose, errors, flow, task, tear_down, unmapped
from dagy.cli.main import build_parser
from dagy.status import RUN_TRANSITIONS, TASK_RUN_TRANSITIONS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
SOURCE = REPOSITORY / "src" / "dagy"
PAGES = sorted([*DOCS.rglob("*.md"), *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])


def loaded(path: Path) -> ModuleType:
    """The module of a file that is not on `sys.path`."""
    spec = spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


generate_cli = loaded(DOCS / "generate_cli.py")


def read(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def sections(page: str) -> dict[str, str]:
    """The text below each heading, up to the next one of any level."""
    parts = re.split(r"(?m)^#+ +(.+)$", without_code(page))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def without_code(text: str) -> str:
    return re.sub(r"(?ms)^ *```.*?^ *```", "", text)


COMMANDS = dict(generate_cli.commands(build_parser()))


class TestCommandLine:
    def test_the_list_on_one_screen_is_up_to_date(self) -> None:
        page = read("reference/cli.md")
        shall = generate_cli.with_list(page, generate_cli.command_list(build_parser()))
        assert page == shall, "run: python docs/generate_cli.py"

    def test_the_list_fits_on_a_screen(self) -> None:
        lines = generate_cli.command_list(build_parser()).splitlines()
        assert len(lines) <= 50
        assert max(map(len, lines)) <= 100

    @pytest.mark.parametrize("name", COMMANDS)
    def test_each_command_has_a_section_with_all_that_it_takes(self, name: str) -> None:
        text = sections(read("reference/cli.md"))[name]
        common = {"--help", "--verbose", "--quiet", "--no-color"}
        for action in COMMANDS[name]._actions:
            option = action.option_strings[-1] if action.option_strings else None
            if option in common:
                continue
            shown = option or str(action.metavar or "{" + ",".join(action.choices or ()) + "}")
            assert re.search(rf"`{re.escape(shown)}[ `.]", text), f"{name}: {shown}"

    def test_the_options_that_all_have_are_explained(self) -> None:
        text = sections(read("reference/cli.md"))["For all commands"]
        for option in ("--help", "--version", "--verbose", "--quiet", "--no-color"):
            assert f"`{option}`" in text


class TestNames:
    @pytest.mark.parametrize("name", dagy.__all__)
    def test_each_public_name_is_in_the_reference_of_the_sdk(self, name: str) -> None:
        assert re.search(rf"`(dagy\.)?{name}\b", without_code(read("reference/sdk.md")))

    @pytest.mark.parametrize("decorated", [dagy.Task, dagy.Flow])
    def test_each_setting_of_the_decorators_is_in_the_reference_of_the_sdk(self, decorated: type) -> None:
        text = sections(read("reference/sdk.md"))[f"`{decorated.__name__.lower()}`"]
        settings = [name for name in inspect.signature(decorated.__init__).parameters if name not in ("self", "fn")]
        assert [name for name in settings if f"`{name}`" not in text] == []

    def test_each_error_has_cause_and_remedy(self) -> None:
        classes = [
            name
            for name, value in vars(errors).items()
            if isinstance(value, type) and value.__module__ == errors.__name__ and issubclass(value, Exception)
        ]
        text = without_code(read("reference/errors.md"))
        roots = {"DagyError", "LocalExecutionError"}
        assert [name for name in classes if name not in roots and f"\n| `{name}` |" not in text] == []
        assert all(f"`{name}`" in text for name in roots)

    def test_each_error_is_printed_as_the_page_says(self) -> None:
        rows = re.findall(r"(?m)^\| `(\w+)` \| (.+?) \| ([\d, or]+) \|", read("reference/errors.md"))
        assert len(rows) > 15
        for name, label, codes in rows:
            if not hasattr(errors, name):
                continue
            cls = getattr(errors, name)
            printed = {"-": "", "its name": None}.get(label, label.strip("`"))
            assert cls.label == printed, name
            default = getattr(cls, "exit_code", None)
            assert default is None or str(int(default)) in re.findall(r"\d+", codes), name

    def test_each_exit_code_is_explained(self) -> None:
        for code in errors.ExitCode:
            assert f"| {int(code)} | `{code.name}` |" in read("reference/errors.md")

    def test_each_variable_is_explained(self) -> None:
        source = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
        found = set(re.findall(r"\b(?:DAGY|AWS)_[A-Z_]*[A-Z]\b", source)) | {"NO_COLOR", "SOURCE_DATE_EPOCH"}
        text = read("reference/configuration.md")
        assert sorted(name for name in found if f"`{name}`" not in text) == []

    def test_no_variable_is_made_up(self) -> None:
        source = "\n".join(
            path.read_text("utf-8") for path in (*SOURCE.rglob("*.py"), REPOSITORY / "tests/conftest.py")
        )
        for page in PAGES:
            for name in re.findall(r"\bDAGY_[A-Z_]*[A-Z]\b", page.read_text("utf-8")):
                assert name in source, f"{page.name}: {name}"


class TestStates:
    @pytest.mark.parametrize("table", [RUN_TRANSITIONS, TASK_RUN_TRANSITIONS], ids=["run", "task run"])
    def test_the_page_has_the_tables_of_the_code(self, table: dict[Any, frozenset[Any]]) -> None:
        for status, following in table.items():
            last = ", ".join(f"`{each}`" for each in sorted(following)) or "nothing, it is final"
            assert re.search(rf"(?m)^\| `{status}` \| .+ \| {last} \|$", read("concepts/states.md")), status


class TestArchitecture:
    page = read("architecture/overview.md")

    def test_each_module_has_a_line(self) -> None:
        modules = [path for path in SOURCE.rglob("*.py") if path.stat().st_size]
        names = {path.relative_to(SOURCE).as_posix() for path in modules}
        listed = set(re.findall(r"`([\w/]+\.py)`(?=.* \|)", self.page))
        assert sorted(names - listed) == []
        assert sorted(listed - names) == []

    def test_the_layers_are_those_of_the_contract(self) -> None:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
        layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
        assert '```text title="layers"\n' + "\n".join(layers) + "\n```" in self.page


class Color(Enum):
    RED = 1


@dataclass
class Point:
    x: int
    y: object


class Pair(NamedTuple):
    one: int
    two: object


class Model(BaseModel):
    name: str


@task
def make() -> Any: ...


@task
def take(value: Any) -> None: ...


@task(retries=[((ConnectionError, TimeoutError), 2, [1, 2]), (OSError, 1)], retry_jitter_factor=0.5)
async def add(one: int, two: Any) -> None: ...


@flow(tags={"team": "docs"}, timeout_seconds=1.5, executor="lambda", execution_mode="nano")
def inner(value: Any) -> None:
    take(value)


@flow
def every_marker() -> Any:
    made = make()
    for value in (
        made,
        made["rows"][0],
        (1, made),
        {1, 2},
        frozenset("a"),
        {1: "a", "b": made},
        {"$ref": "not a marker", "$literal": 1},
        {"plain": {"deep": [None, True, 1.5, "text"]}},
        [date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone.utc), time(1, 2), timedelta(days=1, microseconds=1)],
        [Decimal("1.5"), UUID(int=1), Path("a"), b"bytes", 1j, range(3)],
        Color.RED,
        Point(1, made),
        Pair(1, made),
        Model(name="a"),
        allow_failed(made),
        choose(made["kind"], {"a": lambda: make(), "b": lambda: made}, default=lambda: make()),
    ):
        inner(value)
    mapped = take.options(map_name="{value}", max_concurrency=2).map(made["rows"])
    settings = {"retries": 2, "retry_delay_seconds": [1], "retry_jitter_factor": 0.5, "timeout_seconds": 3}
    condition = ((made["n"] > 2) & ~(made["ok"] == True)) | made["go"]  # noqa: E712 - an expression
    with tear_down(take, made):
        take.options(when=condition, after=[mapped], trigger_rule="all_done", name="last", **settings)(1)
        add.map([1, 2], unmapped(made))
        inner.submit(value=made)
    return {"made": made, "pair": (made, 1)}


def example_flows() -> Iterator[Any]:
    for path in sorted((REPOSITORY / "examples").rglob("*.py")):
        sys.path.insert(0, str(path.parent))
        try:
            if "@flow" in path.read_text("utf-8"):
                found = [value for value in vars(loaded(path)).values() if isinstance(value, Flow)]
                assert found
                yield from (pytest.param(each, id=each.name) for each in found)
        finally:
            sys.path.remove(str(path.parent))


class TestSchema:
    schema = json.loads(read("reference/flow-spec.schema.json"))
    validator = Draft202012Validator(schema)

    def test_the_schema_is_one(self) -> None:
        Draft202012Validator.check_schema(self.schema)

    @pytest.mark.parametrize("each", [*example_flows(), pytest.param(every_marker, id="every_marker")])
    def test_what_is_written_is_valid(self, each: Flow[Any, Any]) -> None:
        document = json.loads("".join(each.build(**each.example).to_json_lines()))
        assert list(self.validator.iter_errors(document)) == []
        assert FlowSpec.from_dict(document).to_dict().keys() == document.keys()

    @pytest.mark.parametrize(
        "value",
        [{"$ref": 1}, {"$ref": "a", "other": 1}, {"$tuple": {}}, {"$value": "os.system", "of": "x"}, {"$unknown": 1}],
    )
    def test_an_input_that_nobody_writes_is_not_valid(self, value: object) -> None:
        document = every_marker.build().to_dict()
        document["task_runs"] = [{**document["task_runs"][0], "inputs": {"value": value}}]
        assert list(self.validator.iter_errors(json.loads(json.dumps(document)))) != []

    @pytest.mark.parametrize("key", schema["required"])
    def test_every_key_is_needed(self, key: str) -> None:
        document = json.loads(json.dumps(every_marker.build().to_dict()))
        del document[key]
        assert list(self.validator.iter_errors(document)) != []

    def test_the_page_explains_every_key_and_marker(self) -> None:
        text = read("reference/flow-spec.md")
        task_run = self.schema["$defs"]["taskRun"]["required"]
        assert [key for key in (*self.schema["required"], *task_run) if f"`{key}`" not in text] == []
        markers = {key for each in self.schema["$defs"].values() for key in each.get("required", []) if "$" in key}
        assert len(markers) > 10
        assert [marker for marker in markers if f'`{{"{marker}": ' not in text] == []

    def test_the_flow_of_every_marker_has_every_marker(self) -> None:
        text = json.dumps(every_marker.build().to_dict())
        markers = {key for each in self.schema["$defs"].values() for key in each.get("required", []) if "$" in key}
        assert [marker for marker in markers if f'"{marker}": ' not in text] == ["$literal"]  # which is only read

    def test_the_document_on_the_page_is_the_one_that_is_built(self, tmp_path: Path) -> None:
        text = read("reference/flow-spec.md")
        source = re.search(r'(?s)```python title="etl.py"\n(.*?)```', text)
        shown = re.search(r"(?s)```json\n(.*?)```", text)
        assert source is not None
        assert shown is not None
        (tmp_path / "etl.py").write_text(source[1], "utf-8")
        command = [sys.executable, "-m", "dagy", "graph", "etl.py:etl", "--format", "json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert json.loads(shown[1]) == json.loads(done.stdout)


class TestSite:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_links_lead_to_pages_and_headings(self, page: Path) -> None:
        text = without_code(page.read_text("utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in {slug(heading) for heading in sections(path.read_text("utf-8"))}, target

    def test_the_picture_of_the_quickstart_is_up_to_date(self, tmp_path: Path) -> None:
        target = "examples/nyc_flights.py:flights_report"
        command = [sys.executable, "-m", "dagy", "graph", target, "--output", str(tmp_path / "graph.svg")]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        picture = DOCS / "images" / "flights_report.svg"
        fresh = (tmp_path / "graph.svg").read_text("utf-8")
        assert picture.read_text("utf-8") == fresh, f"run: dagy graph {target} --output docs/images/flights_report.svg"

    def test_every_page_is_in_the_navigation(self) -> None:
        listed = set(re.findall(r"[\w/-]+\.md", (REPOSITORY / "mkdocs.yml").read_text("utf-8")))
        assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    def test_every_page_begins_with_what_the_reader_gets(self) -> None:
        for path in DOCS.rglob("*.md"):
            first = path.read_text("utf-8").split("\n\n")[1]
            assert first.startswith("You get "), path.name

    @pytest.mark.slow
    def test_the_site_is_built_without_a_warning(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "site" / "reference" / "flow-spec.schema.json").is_file()
        assert not list((tmp_path / "site").rglob("generate_cli*"))


def slug(heading: str) -> str:
    """The anchor that the site gives a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
