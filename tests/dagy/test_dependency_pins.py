"""`dagy.dependency_pins`: what a flow's project says that it needs."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from dagy.dependency_pins import DependencyPins, dependency_pins
from dagy.errors import ConfigError
from dagy.flow_source import locate

SCRIPT = """
    # /// script
    # requires-python = ">=3.10"
    # dependencies = [
    #   "polars==1.2.3",
    #   "duckdb",
    # ]
    # ///
    import duckdb
"""

UV_LOCK = """
    version = 1

    [[package]]
    name = "project"
    source = { virtual = "." }
    dependencies = [
        { name = "httpx", extra = ["http2"] },
        { name = "colorama", marker = "sys_platform == 'win32'" },
        { name = "numpy", version = "1.26.0", marker = "python_version < '3.11'" },
        { name = "numpy", version = "2.0.0", marker = "python_version >= '3.11'" },
        { name = "library" },
    ]
    [package.dev-dependencies]
    dev = [{ name = "pytest" }]

    [[package]]
    name = "httpx"
    version = "0.27.0"
    source = { registry = "https://example.invalid/simple" }
    dependencies = [{ name = "idna" }]
    [package.optional-dependencies]
    http2 = [{ name = "h2" }]
    socks = [{ name = "socksio" }]

    [[package]]
    name = "idna"
    version = "3.7"
    source = { registry = "https://example.invalid/simple" }
    dependencies = [{ name = "httpx" }]

    [[package]]
    name = "h2"
    version = "4.1.0"
    source = { git = "https://example.invalid/h2?rev=v4#0123abc" }

    [[package]]
    name = "socksio"
    version = "1.0.0"
    source = { registry = "https://example.invalid/simple" }

    [[package]]
    name = "colorama"
    version = "0.4.6"
    source = { registry = "https://example.invalid/simple" }
    dependencies = [{ name = "ansi", marker = "python_version < '3.12'" }]

    [[package]]
    name = "ansi"
    version = "1.0"
    source = { registry = "https://example.invalid/simple" }

    [[package]]
    name = "numpy"
    version = "1.26.0"
    source = { registry = "https://example.invalid/simple" }

    [[package]]
    name = "numpy"
    version = "2.0.0"
    source = { registry = "https://example.invalid/simple" }

    [[package]]
    name = "pytest"
    version = "8.0.0"
    source = { registry = "https://example.invalid/simple" }

    [[package]]
    name = "library"
    version = "0.1.0"
    source = { editable = "library" }
    dependencies = [{ name = "attrs" }]

    [[package]]
    name = "attrs"
    version = "24.1"
    source = { url = "https://example.invalid/attrs-24.1.whl" }
"""


def pins(root: Path, files: dict[str, str], entry: str = "flow.py") -> DependencyPins:
    """Write files and return what the flow of `entry` needs, the root being the working directory."""
    for name, text in {entry: "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return dependency_pins(locate(root / entry, cwd=root))


def test_of_a_project_that_says_nothing_are_none(tmp_path):
    assert pins(tmp_path, {}) == ((), "")


def test_come_from_the_script_block_first(tmp_path):
    files = {"flow.py": SCRIPT, "uv.lock": UV_LOCK, "requirements.txt": "rich"}
    assert pins(tmp_path, files) == (("duckdb", "polars==1.2.3"), "flow.py")


def test_of_a_script_block_without_dependencies_are_none(tmp_path):
    files = {"flow.py": "# /// script\n# requires-python = '>=3.10'\n# ///\n", "requirements.txt": "rich"}
    assert pins(tmp_path, files).pins == ()


def test_of_two_script_blocks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"flow.py has 2 '# /// script' blocks; keep one"):
        pins(tmp_path, {"flow.py": SCRIPT + SCRIPT})


def test_come_from_a_lock_file_before_requirements(tmp_path):
    assert pins(tmp_path, {"uv.lock": UV_LOCK, "requirements.txt": "rich"}).source == "uv.lock"


def test_come_from_requirements_before_the_project(tmp_path):
    files = {"requirements.txt": "rich", "pyproject.toml": "[project]\ndependencies = ['httpx']"}
    assert pins(tmp_path, files) == (("rich",), "requirements.txt")


def test_come_from_the_project_at_last(tmp_path):
    assert pins(tmp_path, {"pyproject.toml": "[project]\ndependencies = ['httpx >= 1']"}) == (
        ("httpx >= 1",),
        "pyproject.toml",
    )


def test_of_a_project_file_without_dependencies_are_looked_for_further_up(tmp_path):
    files = {"a/pyproject.toml": "[tool.x]", "pyproject.toml": "[project]\ndependencies = ['httpx']"}
    assert pins(tmp_path, files, "a/flow.py").pins == ("httpx",)


def test_of_the_nearest_folder_win(tmp_path):
    files = {"a/requirements.txt": "near", "requirements.txt": "far"}
    assert pins(tmp_path, files, "a/b/flow.py").pins == ("near",)


def test_are_looked_for_up_to_the_root_of_the_repository(tmp_path):
    (tmp_path / "repo/.git").mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("outside")
    (tmp_path / "repo/pipelines").mkdir()
    (tmp_path / "repo/pipelines/flow.py").touch()
    source = locate(tmp_path / "repo/pipelines/flow.py", cwd=tmp_path / "repo/pipelines")
    assert dependency_pins(source).pins == ()
    (tmp_path / "repo/requirements.txt").write_text("inside")
    assert dependency_pins(source).pins == ("inside",)


def test_of_uv_follow_what_the_project_needs_with_its_markers(tmp_path):
    assert pins(tmp_path, {"uv.lock": UV_LOCK}).pins == (
        "ansi==1.0 ; (python_version < '3.12') and (sys_platform == 'win32')",
        "attrs @ https://example.invalid/attrs-24.1.whl",
        "colorama==0.4.6 ; sys_platform == 'win32'",
        "h2 @ git+https://example.invalid/h2@0123abc",
        "httpx==0.27.0",
        "idna==3.7",
        "numpy==1.26.0 ; python_version < '3.11'",
        "numpy==2.0.0 ; python_version >= '3.11'",
    )


def test_of_a_uv_workspace_are_those_of_the_nearest_member(tmp_path):
    assert pins(tmp_path, {"uv.lock": UV_LOCK}, "library/flow.py").pins == (
        "attrs @ https://example.invalid/attrs-24.1.whl",
    )


def test_of_uv_that_are_reached_in_several_ways_hold_in_any_of_them(tmp_path):
    lock = """
        [[package]]
        name = "project"
        source = { editable = "." }
        dependencies = [{ name = "a" , marker = "m1" }, { name = "b" , marker = "m2" }]
        [[package]]
        name = "a"
        version = "1"
        source = { registry = "r" }
        dependencies = [{ name = "c" }, { name = "b" }]
        [[package]]
        name = "b"
        version = "1"
        source = { registry = "r" }
        dependencies = [{ name = "c" }]
        [[package]]
        name = "c"
        version = "1"
        source = { registry = "r" }
    """
    assert pins(tmp_path, {"uv.lock": lock}).pins == (
        "a==1 ; m1",
        "b==1 ; (m1) or (m2)",
        "c==1 ; (m1) or (m2)",
    )


def test_of_uv_that_are_reached_in_very_many_ways_always_hold(tmp_path):
    edges = "".join(f"{{ name = 'a', marker = 'm{number}' }}, " for number in range(20))
    lock = f"""
        [[package]]
        name = "project"
        source = {{ editable = "." }}
        dependencies = [{edges}]
        [[package]]
        name = "a"
        version = "1"
        source = {{ registry = "r" }}
        dependencies = [{{ name = "b" }}]
        [[package]]
        name = "b"
        version = "2"
        source = {{ registry = "r" }}
    """
    assert pins(tmp_path, {"uv.lock": lock}).pins == ("a==1", "b==2")


def test_of_a_pylock_leave_out_groups_and_extras(tmp_path):
    lock = """
        lock-version = "1.0"
        [[packages]]
        name = "attrs"
        version = "25.1.0"
        marker = "python_version >= '3.8'"
        [[packages]]
        name = "pytest"
        version = "8.0"
        marker = "'dev' in dependency_groups"
        [[packages]]
        name = "mine"
        directory = { path = "." }
        [[packages]]
        name = "tool"
        vcs = { type = "git", url = "https://example.invalid/tool", commit-id = "abc" }
    """
    assert pins(tmp_path, {"pylock.toml": lock}).pins == (
        "attrs==25.1.0 ; python_version >= '3.8'",
        "tool @ git+https://example.invalid/tool@abc",
    )


def test_of_poetry_leave_out_other_groups_and_extras(tmp_path):
    lock = """
        [[package]]
        name = "attrs"
        version = "25.1.0"
        optional = false
        groups = ["main", "dev"]
        markers = {main = "python_version >= '3.9'", dev = "x"}
        [[package]]
        name = "old-format"
        version = "1.0"
        [[package]]
        name = "pytest"
        version = "8.0"
        groups = ["dev"]
        [[package]]
        name = "extra"
        version = "8.0"
        optional = true
    """
    assert pins(tmp_path, {"poetry.lock": lock}).pins == ("attrs==25.1.0 ; python_version >= '3.9'", "old-format==1.0")


def test_of_requirements_leave_out_comments_options_and_local_paths(tmp_path):
    text = """\
        # what we need
        httpx==0.27.0 ; python_version < '3.12'   # for the API
        rich==13.0 \\
            --hash=sha256:aaaa \\
            --hash=sha256:bbbb
        --index-url https://user:password@example.invalid/simple
        -e .
        ./wheels/mine.whl
        tool @ https://example.invalid/tool.zip#egg=tool
        -r more.txt
    """
    files = {
        "requirements.txt": text,
        "more.txt": "attrs\n-r requirements.txt\n--requirement=even.txt",
        "even.txt": "b",
    }
    assert pins(tmp_path, files).pins == (
        "attrs",
        "b",
        "httpx==0.27.0 ; python_version < '3.12'",
        "rich==13.0",
        "tool @ https://example.invalid/tool.zip#egg=tool",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pylock.toml", "not toml"),
        ("uv.lock", "package = 3"),
        ("uv.lock", "[[package]]\nname = 'p'\nsource = { editable = '.' }\ndependencies = ['x']"),
        ("poetry.lock", "package = ['a']"),
        ("requirements.txt", "-r missing.txt"),
        ("pyproject.toml", "[project]\ndependencies = 'httpx'"),
        ("flow.py", "# /// script\n# dependencies = [\n# ///\n"),
    ],
)
def test_of_a_malformed_file_are_refused_by_its_name(tmp_path, name, text):
    with pytest.raises(ConfigError, match=r"^The dependencies in .*(missing\.txt|" + name.replace(".", r"\.") + ")"):
        pins(tmp_path, {name: text})


def test_a_token_in_an_address_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("")
    (tmp_path / "requirements.txt").write_text("private @ git+https://me:s3cret@example.invalid/private.git\n")
    pins = dependency_pins(locate(tmp_path / "flows.py", cwd=tmp_path))
    assert pins.pins == ("private @ git+https://example.invalid/private.git",)
