"""The drawings of a graph: whatever its shape and its names, nothing is missing, doubled or broken."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy import flow, task
from dagy.drawing.diagram import dot, mermaid
from dagy.drawing.labels import condition_text, marks, printable
from dagy.drawing.layout import Layout, lay_out, spread
from dagy.drawing.svg import svg
from dagy.drawing.tree import ASCII, DEEPEST_LEVEL, tree
from dagy.errors import DependencyCycleError
from dagy.spec import FlowSpec, TaskRunSpec, TaskSpec

SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = (
    'say "hi"', "a[b](c){d}", "a]b", "🚀 名前", "two\nlines", "back\\slash\\", "<b>&amp;</b>", "#35;", "`code`",
    "1. list", "- item", "**b** __c__", "end", "semi;colon", "%% no comment", "a --> b", "|pipe|", "\x1b[31mred",
    "\x00\ufffe", "x" * 300, "'", "]]>", "-->", "a:b", "fa:fa-car", "  ", "subgraph", "\u202eevil", "\u2028",
)  # fmt: skip


def graph(edges: dict[str, list[str]], *, groups: dict[str, str] | None = None, **settings: Any) -> FlowSpec:
    """A flow of one task; `edges` has the parents of each task run."""
    nodes = (
        TaskRunSpec(name, "work", depends_on=tuple(parents), group=(groups or {}).get(name))
        for name, parents in edges.items()
    )
    return FlowSpec(
        "demo", version="1.0", tasks={"work": TaskSpec("work", "m:work", **settings)}, task_runs=tuple(nodes)
    )


def chain(length: int) -> FlowSpec:
    return graph({f"work-{index}": [f"work-{index - 1}"] if index else [] for index in range(length)})


def fan(width: int) -> FlowSpec:
    middle = [f"work-{index}" for index in range(width)]
    return graph({"first": [], **{name: ["first"] for name in middle}, "last": middle})


@st.composite
def flows(draw: st.DrawFn) -> FlowSpec:
    """Acyclic graphs in any order, with names and groups of any characters."""
    texts = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=8))
    names = draw(st.lists(texts, unique_by=printable, max_size=14))
    groups = st.none() | st.lists(st.sampled_from([*HOSTILE, "a", "b", "c"]), min_size=1, max_size=3).map("/".join)
    nodes = []
    for index, name in enumerate(names):
        parents = draw(st.lists(st.sampled_from(names[:index]), max_size=4)) if index else []
        nodes.append(TaskRunSpec(name, draw(texts), depends_on=tuple(parents), group=draw(groups)))
    tasks = {node.task: TaskSpec(node.task, "m:f", retries=3) for node in nodes}
    return FlowSpec(draw(texts), tasks=tasks, task_runs=tuple(draw(st.permutations(nodes))))


def edges_of(spec: FlowSpec) -> Counter[tuple[str, str]]:
    """The edges as drawings know them: each once, in printable characters."""
    return Counter({(printable(parent), printable(child)) for parent, child in spec.edges})


# The tree


def test_tree_puts_a_task_run_below_the_last_of_its_parents() -> None:
    spec = graph({"a-1": [], "b-1": ["a-1"], "b-2": ["a-1"], "merge-1": ["b-1", "b-2"], "z-1": []})

    assert list(tree(spec)) == [
        "demo:1.0 (5 task runs, 4 edges)",
        "├─ a-1 work",
        "│  ├─ b-1 work → merge-1 (see below)",
        "│  └─ b-2 work",
        "│     └─ merge-1 work",
        "└─ z-1 work",
    ]


def test_tree_can_do_without_box_drawing_characters() -> None:
    spec = graph({"a-1": [], "b-1": ["a-1"], "b-2": ["a-1"], "merge-1": ["b-1", "b-2"]})

    assert list(tree(spec, glyphs=ASCII))[1:] == [
        "`- a-1 work",
        "   |- b-1 work -> merge-1 (see below)",
        "   `- b-2 work",
        "      `- merge-1 work",
    ]


def test_tree_names_settings_and_group() -> None:
    spec = graph(
        {"a-1": []}, groups={"a-1": "etl-1"}, retries=3, timeout_seconds=2, concurrency_limit=4, executor="ecs"
    )

    assert list(tree(spec))[1] == "└─ a-1 work retries=3 timeout=2s concurrency=4 executor=ecs group=etl-1"


def test_tree_of_an_empty_flow_says_so() -> None:
    assert list(tree(FlowSpec("demo"))) == ["demo:latest (no task runs)"]


def test_tree_goes_on_at_the_margin_where_a_chain_is_too_deep() -> None:
    lines = list(tree(chain(DEEPEST_LEVEL + 2)))

    assert lines[DEEPEST_LEVEL].endswith(f"work-{DEEPEST_LEVEL - 1} work → work-{DEEPEST_LEVEL} (see below)")
    assert lines[DEEPEST_LEVEL + 1 :] == [
        f"└─ work-{DEEPEST_LEVEL} work",
        f"   └─ work-{DEEPEST_LEVEL + 1} work",
    ]


def test_tree_of_a_long_chain_stays_narrow() -> None:
    lines = list(tree(chain(5_000)))

    assert len(lines) == 5_001
    assert max(map(len, lines)) < 100


def test_tree_cuts_the_list_of_references() -> None:
    followers = [f"b-{index}" for index in range(1_000)]
    spec = graph({"a-1": [], "a-2": [], **{name: ["a-1", "a-2"] for name in followers}})

    assert list(tree(spec))[1] == "├─ a-1 work → b-0, b-1, b-2, b-3, b-4 and 995 more (see below)"


def test_tree_paints_each_piece_once() -> None:
    painted = list(tree(graph({"a-1": []}, retries=1), paint=lambda kind, text: f"<{kind} {text}>"))

    assert painted == ["<name demo:1.0> (1 task run, 0 edges)", "<branch └─ ><name a-1> <task work> <mark retries=1>"]


@given(flows())
def test_tree_has_a_line_for_each_task_run_after_all_its_parents(spec: FlowSpec) -> None:
    lines = list(tree(spec, paint=lambda kind, text: f"\x00{text}\x00" if kind == "name" else text))
    order = [line.split("\x00")[1] for line in lines[1:]]

    assert Counter(order) == Counter(printable(node.id) for node in spec.task_runs)
    place = {name: index for index, name in enumerate(order)}
    assert all(place[parent] < place[child] for parent, child in edges_of(spec))
    assert not any(character in line for line in lines for character in "\n\r\x1b\u2028\u202e")


# What a task run is marked with


def test_marks_show_what_one_call_changed() -> None:
    node = TaskRunSpec("ask-1", "work", kind="flow", options={"retries": 5}, map={"over": ["a", "b"]})
    spec = FlowSpec("demo", tasks={"work": TaskSpec("work", "m:f", retries=1, timeout_seconds=0.25)})

    assert marks(spec, node) == ["flow", "retries=5", "timeout=0.25s", "map=a,b"]


def test_marks_show_when_a_branch_is_taken() -> None:
    @task
    def look() -> dict[str, str]:
        return {}

    @task
    def act() -> None: ...

    @flow
    def branching() -> None:
        found = look()
        act.options(when=(found["kind"] == "größer") & ~(found["size"] > 3))()  # type: ignore[operator]

    spec = branching.build()

    assert marks(spec, spec.task_runs[1]) == ['when=((look-1["kind"] == "größer") and not (look-1["size"] > 3))']


def test_a_deep_condition_is_abridged() -> None:
    condition: object = {"$ref": "a-1", "path": ["ok", 0]}
    for _ in range(5_000):
        condition = {"$condition": "not", "args": [condition]}

    assert condition_text({"$ref": "a-1", "path": ["ok", 0]}) == 'a-1["ok"][0]'
    assert condition_text(condition) == "not not not not …"


# Mermaid and Graphviz


def test_mermaid_writes_groups_as_subgraphs() -> None:
    groups = {"b-1": "etl-1", "c-1": "etl-1/clean-1"}
    spec = graph({"a-1": [], "b-1": ["a-1"], "c-1": ["b-1"]}, groups=groups, retries=2)

    assert list(mermaid(spec)) == [
        "flowchart LR",
        '  n0["a-1<br/>work retries=2"]',
        '  subgraph g0["etl-1"]',
        '    n1["b-1<br/>work retries=2"]',
        '    subgraph g1["clean-1"]',
        '      n2["c-1<br/>work retries=2"]',
        "    end",
        "  end",
        "  n0 --> n1",
        "  n1 --> n2",
    ]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ('say "hi"', "say #34;hi#34;"),
        ("a[b]", "a[b]"),
        ("two\nlines", "two<br/>lines"),
        ("🚀", "🚀"),
        ("<b>&amp;", "#60;b#62;#38;amp#59;"),
        ("#35;", "#35;35#59;"),
        ("1. list", "#49;. list"),
        ("snake_case", "snake_case"),
        ("_emphasis_", "#95;emphasis#95;"),
        ("\x1b", "#92;x1b"),
    ],
)
def test_mermaid_escapes_a_name(name: str, label: str) -> None:
    spec = FlowSpec("demo", tasks={"": TaskSpec("", "m:f")}, task_runs=(TaskRunSpec(name, ""),))

    assert next(line for line in mermaid(spec) if "n0[" in line).startswith(f'  n0["{label}')


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ('say "hi"-1', r'"say \"hi\"-1" [label="say \"hi\"-1"];'),
        ("back\\-1", r'"back\\-1" [label="back\\-1"];'),
        ("two\nlines-1", r'"two\nlines-1" [label="two\nlines-1"];'),
        ("&lt;-1", '"&lt;-1" [label="&amp;lt;-1"];'),
    ],
)
def test_dot_escapes_a_name(name: str, line: str) -> None:
    task = name.removesuffix("-1")
    spec = FlowSpec("demo", tasks={task: TaskSpec(task, "m:f")}, task_runs=(TaskRunSpec(name, task),))

    assert f"  {line}" in list(dot(spec))


@given(flows())
def test_mermaid_has_each_task_run_and_edge_once(spec: FlowSpec) -> None:
    text = "\n".join(mermaid(spec))

    assert Counter(re.findall(r'^ *n(\d+)\["[^"\n]*"\]$', text, re.M)) == Counter(map(str, range(len(spec.task_runs))))
    numbers = {str(index): printable(node.id) for index, node in enumerate(spec.task_runs)}
    drawn = re.findall(r"^  n(\d+) --> n(\d+)$", text, re.M)
    assert Counter((numbers[parent], numbers[child]) for parent, child in drawn) == edges_of(spec)
    assert len(re.findall(r'^ *subgraph g\d+\["[^"\n]*"\]$', text, re.M)) == len(re.findall(r"^ *end$", text, re.M))


@given(flows())
def test_dot_has_each_task_run_and_edge_once(spec: FlowSpec) -> None:
    text = "\n".join(dot(spec))
    quoted = r'"((?:[^"\\\n]|\\.)*)"'

    names = dict.fromkeys(re.findall(rf"^ +{quoted} \[label={quoted}\];$", text, re.M))
    assert len(names) == len(spec.task_runs)
    drawn = Counter(re.findall(rf"^  {quoted} -> {quoted};$", text, re.M))
    plain = {(_unquoted(parent), _unquoted(child)): count for (parent, child), count in drawn.items()}
    assert plain == edges_of(spec)
    assert sum("{" in re.sub(quoted, "", line) for line in text.split("\n")) == len(re.findall(r"^ *\}$", text, re.M))


def _unquoted(dot_id: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", dot_id)


# The picture


@given(flows())
def test_svg_has_each_task_run_and_edge_once(spec: FlowSpec) -> None:
    root = ElementTree.fromstring("\n".join(svg(spec)))

    nodes = [each.get("data-id") for each in root.iter(f"{SVG}g") if each.get("class") == "node"]
    assert Counter(nodes) == Counter(printable(node.id) for node in spec.task_runs)
    paths = [each for each in root.iter(f"{SVG}path") if each.get("class") == "edge"]
    assert Counter((each.get("data-from"), each.get("data-to")) for each in paths) == edges_of(spec)
    drawn_groups = {each.get("data-group") for each in root.iter(f"{SVG}g") if each.get("class") == "group"}
    assert {printable(node.group) for node in spec.task_runs if node.group} <= drawn_groups


def test_svg_says_what_it_shows_to_those_who_do_not_see_it() -> None:
    root = ElementTree.fromstring("\n".join(svg(graph({"a-1": [], "b-1": ["a-1"]}))))

    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "demo:1.0"
    assert root.findtext(f"{SVG}desc") == "The graph of the flow demo:1.0: 2 task runs, 1 edge."


def test_svg_cuts_a_long_name_and_keeps_it_whole_in_the_tooltip() -> None:
    root = ElementTree.fromstring("\n".join(svg(graph({"名" * 100: []}))))
    node = next(each for each in root.iter(f"{SVG}g") if each.get("class") == "node")

    assert node.findtext(f"{SVG}text") == "名" * 17 + "…"
    assert str(node.findtext(f"{SVG}title")).startswith("名" * 100)


def test_svg_needs_nothing_from_elsewhere() -> None:
    text = "\n".join(svg(fan(3)))

    assert re.findall(r"https?://[^\"\s]+", text) == ["http://www.w3.org/2000/svg"]


# The layout


def laid_out(parents: list[list[int]], groups: list[tuple[str, ...]] | None = None) -> Layout:
    return lay_out(parents, [(100.0, 40.0)] * len(parents), groups or [()] * len(parents))


@st.composite
def nets(draw: st.DrawFn) -> tuple[list[list[int]], list[tuple[str, ...]]]:
    count = draw(st.integers(0, 16))
    parents = [
        draw(st.lists(st.integers(0, index - 1), unique=True, max_size=3)) if index else [] for index in range(count)
    ]
    paths = st.sampled_from([(), ("a",), ("a", "b"), ("c",), ("c", "d", "e")])
    return parents, draw(st.lists(paths, min_size=count, max_size=count))


@given(nets())
def test_boxes_do_not_overlap_and_edges_lead_to_the_right(net: tuple[list[list[int]], list[tuple[str, ...]]]) -> None:
    layout = laid_out(*net)

    boxes = sorted(layout.boxes)
    for box in boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.right <= layout.width + 1e-6
        assert box.bottom <= layout.height + 1e-6
    assert all(upper.x < lower.x or upper.bottom < lower.y for upper, lower in pairwise(boxes))
    for parent, child, waypoints in layout.routes:
        stops = [layout.boxes[parent], *waypoints, layout.boxes[child]]
        assert all(left.right < right.x for left, right in pairwise(stops))


@given(nets())
def test_a_frame_holds_its_group_and_nothing_else(net: tuple[list[list[int]], list[tuple[str, ...]]]) -> None:
    _, groups = net
    layout = laid_out(*net)

    for node, box in enumerate(layout.boxes):
        around = [
            frame.path
            for frame in layout.frames
            if frame.box.x < box.x < box.right < frame.box.right and frame.box.y < box.y < box.bottom < frame.box.bottom
        ]
        assert around == [groups[node][:depth] for depth in range(1, len(groups[node]) + 1)]


def test_a_diamond_is_symmetrical() -> None:
    top, upper, lower, bottom = laid_out([[], [0], [0], [1, 2]]).boxes

    assert top.middle == pytest.approx(bottom.middle)
    assert top.middle - upper.middle == pytest.approx(lower.middle - top.middle)


def test_parallel_chains_do_not_cross() -> None:
    # Two chains that the flow calls crosswise: 0-3 and 1-2.
    layout = laid_out([[], [], [1], [0]])

    assert layout.boxes[0].middle == pytest.approx(layout.boxes[3].middle)
    assert layout.boxes[1].middle == pytest.approx(layout.boxes[2].middle)


def test_an_edge_goes_around_the_box_in_between() -> None:
    layout = laid_out([[], [0], [0, 1]])
    _, _, (waypoint,) = next(route for route in layout.routes if route[:2] == (0, 2))

    assert not layout.boxes[1].y <= waypoint.middle <= layout.boxes[1].bottom


def test_subflows_side_by_side_get_frames_that_do_not_touch() -> None:
    parents: list[list[int]] = [[], [0], [0, 1], [], [3], [3, 4], [2, 5]]
    groups: list[tuple[str, ...]] = [("a",)] * 3 + [("b",)] * 3 + [()]
    upper, lower = sorted((frame.box for frame in laid_out(parents, groups).frames), key=lambda box: box.y)

    assert upper.bottom < lower.y


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(0, 100), st.floats(0.01, 10)), max_size=12))
def test_spread_keeps_order_and_distances(entries: list[tuple[float, float, float]]) -> None:
    wishes = [wish for wish, _, _ in entries]
    offsets = [sum(gap for _, gap, _ in entries[1 : index + 1]) for index in range(len(entries))]
    places = spread(wishes, offsets, [weight for _, _, weight in entries])

    for (left, right), (left_offset, right_offset) in zip(pairwise(places), pairwise(offsets), strict=True):
        assert right - left >= right_offset - left_offset - 1e-6


def test_spread_gives_everyone_their_wish_where_there_is_room() -> None:
    assert spread([-5.0, 10.0, 100.0], [0.0, 10.0, 20.0], [1.0, 1.0, 1.0]) == [-5.0, 10.0, 100.0]


# Size


@pytest.mark.parametrize("draw", [tree, mermaid, dot, svg])
@pytest.mark.parametrize("spec", [chain(2_000), fan(10_000)], ids=["deep", "wide"])
def test_large_graphs_are_drawn(spec: FlowSpec, draw: object) -> None:
    assert callable(draw)
    assert sum(1 for _ in draw(spec)) >= len(spec.task_runs)


@pytest.mark.parametrize("draw", [tree, mermaid, dot, svg])
def test_a_cycle_is_refused(draw: object) -> None:
    assert callable(draw)
    with pytest.raises(DependencyCycleError):
        list(draw(graph({"a-1": ["b-1"], "b-1": ["a-1"]})))
