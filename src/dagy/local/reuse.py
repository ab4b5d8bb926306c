"""Outputs of earlier runs that a run need not compute again: those of the run that it resumes, and cached ones."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from dagy.artifacts import Output, RunOutputs
from dagy.attempts import Workplace, expand, resolved_inputs
from dagy.clock import Clock, iso
from dagy.errors import CacheKeyError, NotFound, ParameterError
from dagy.fingerprints import Fingerprint, fingerprint, short_hash
from dagy.local.home import Home
from dagy.local.journal import SPEC_NAME
from dagy.local.records import RunRecord
from dagy.local.store import LocalStore
from dagy.names import path_name
from dagy.object_store import LocalObjectStore
from dagy.references import Failure, Settled, hydrate
from dagy.spec import FlowSpec, TaskRunSpec
from dagy.tasks import Task

#: Takes a sentence for the run's log.
Say = Callable[[str], None]


class EarlierRun:
    """A run that has ended, with its spec: what its task runs were given and what they returned."""

    def __init__(self, home: Home, record: RunRecord) -> None:
        self.home = home
        self.record = record
        path = home.run_folder(record.run_id) / SPEC_NAME
        try:
            self.spec = FlowSpec.from_dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise NotFound(f"Run {record.run_id} can not be used again: its {path} is gone") from None
        self.nodes = {node.id: node for node in self.spec.task_runs}
        self.task_runs = {each.task_run_id: each for each in record.task_runs}
        #: How many items each map had.
        self.item_counts: dict[str, int] = {}
        for known in record.task_runs:
            if known.output is not None and known.output["serializer"] == "map":
                self.item_counts[known.task_run_id] = 0
        for each in self.task_runs:
            mapped, bracket, _ = each.rpartition("[")
            if bracket:
                self.item_counts[mapped] = self.item_counts.get(mapped, 0) + 1

    @classmethod
    def load(cls, home: Home, run_id: str, *, warn: Say) -> EarlierRun:
        """Return a run of this machine.

        Raises:
            NotFound: there is none of that id.
            ParameterError: it has not ended.
        """
        record = LocalStore(home, warn=warn).run(run_id)
        if record is None:
            raise NotFound(f"Run not found: {run_id}")
        if not record.status.is_terminal:
            raise ParameterError(f"Run {run_id} is still {record.status}; wait for its end, or stop it first")
        return cls(home, record)

    def parameters(self) -> dict[str, Any]:
        """Return the parameter values that it was started with."""
        return {name: hydrate(encoded, self) for name, encoded in self.record.parameters.items()}

    def inputs(self, task_run_id: str) -> dict[str, Any]:
        """Return the values that a task run was given.

        Raises:
            NotFound: the run has no such task run.
            ParameterTypeError: one of them was an output that is not there.
        """
        node = self.nodes.get(task_run_id)
        if node is None:
            node = self._item(task_run_id)
        return resolved_inputs(node, self)

    def resolve(self, task_run_id: str) -> Any:
        """As `dagy.references.Outputs`."""
        if task_run_id in self.item_counts:
            return [self.resolve(f"{task_run_id}[{item}]") for item in range(self.item_counts[task_run_id])]
        output = self.output(task_run_id)
        if output is None:
            return None
        return RunOutputs(LocalObjectStore(self.home.path), self.record.run_id).load(output)

    def settle(self, task_run_id: str) -> Settled:
        """As `dagy.references.Outputs`."""
        ids = [task_run_id]
        if task_run_id in self.item_counts:
            ids = [f"{task_run_id}[{item}]" for item in range(self.item_counts[task_run_id])]
        return Settled(
            results=[self.resolve(each) for each in ids if self.output(each) is not None],
            failures=[
                Failure(each, self.task_runs[each].error_message or "") for each in ids if self.output(each) is None
            ],
        )

    def _item(self, task_run_id: str) -> TaskRunSpec:
        mapped, _, number = task_run_id.rpartition("[")
        node = self.nodes.get(mapped)
        if node is None or task_run_id not in self.task_runs:
            raise NotFound(f"Run {self.record.run_id} has no task run {task_run_id}")
        items = expand(node, self).items
        assert items is not None, "the map had this item, so it could be expanded"
        return items[int(number.rstrip("]"))]

    def output(self, task_run_id: str) -> Output | None:
        """Return the output of a task run that succeeded."""
        known = self.task_runs.get(task_run_id)
        if known is None or not known.status.is_success or known.output is None:
            return None
        return _output(known.output)

    def content_of(self, task_run_id: str) -> str:
        """Return the hash of what a task run returned."""
        if task_run_id in self.item_counts:
            return _content_of_items(task_run_id, self.item_counts[task_run_id], self.content_of)
        output = self.output(task_run_id)
        if output is not None:
            return output.sha256
        known = self.task_runs.get(task_run_id)
        return "" if known is None else _content_of_failure(known.error_message)

    def fingerprint(self, node: TaskRunSpec) -> Fingerprint:
        """Return the fingerprint of one of its own task runs."""
        return fingerprint(node, self.spec.tasks[node.task].code_hash, self.content_of)


class Resume:
    """Takes outputs from the run that is resumed, as far as code and inputs are the same."""

    def __init__(self, earlier: EarlierRun, spec: FlowSpec, *, say: Say) -> None:
        self._earlier = earlier
        self._spec = spec
        self._nodes = {node.id: node for node in spec.task_runs}
        self._say = say
        #: What changed, in words, by task run: the items of a map share what is known of it.
        self._changes: dict[str, str | None] = {}

    def find(self, node: TaskRunSpec, workplace: Workplace) -> Output | None:
        """As `dagy.engine.Reuse`."""
        output = self._earlier.output(node.id)
        reason = self._why_not(node, output, workplace)
        if reason is not None:
            self._say(f"{node.id} runs again: {reason}")
            return None
        assert output is not None
        self._say(f"{node.id} is taken from run {self._earlier.record.run_id}")
        return _adopted(output, node.id, workplace, self._earlier.home, self._earlier.record.run_id)

    def keep(self, node: TaskRunSpec, output: Output) -> None:
        """Nothing is kept: this run's own record is what a later resume reads."""

    def _why_not(self, node: TaskRunSpec, output: Output | None, workplace: Workplace) -> str | None:
        known = self._earlier.task_runs.get(node.id)
        if known is None:
            return "the earlier run did not have it"
        if output is None:
            return f"it was {known.status} then"
        if not _is_there(output, self._earlier.home):
            return "its output is gone"
        # An item of a map is as it was if the whole map is: what it goes over, and the code.
        whole = self._nodes.get(node.id) or self._nodes[node.id.rpartition("[")[0]]
        if whole.id not in self._changes:
            self._changes[whole.id] = self._changes_of(whole, workplace)
        return self._changes[whole.id]

    def _changes_of(self, node: TaskRunSpec, workplace: Workplace) -> str | None:
        before = self._earlier.nodes.get(node.id)
        if before is None:
            return "the earlier run did not have it"
        now = fingerprint(node, self._spec.tasks[node.task].code_hash, _contents(workplace))
        differences = self._earlier.fingerprint(before).differences(now)
        return f"{' and '.join(differences)} changed" if differences else None


class Cache:
    """Outputs by key, below `cache/` of the local directory, with a line for each time that one was looked for."""

    def __init__(
        self, home: Home, run_id: str, spec: FlowSpec, tasks: Mapping[str, Task[Any, Any]], *, clock: Clock, pins: str
    ) -> None:
        self._home = home
        self._run_id = run_id
        self._spec = spec
        self._tasks = tasks
        self._clock = clock
        self._pins = pins
        #: The keys by which task runs were looked for: their inputs may be changed by the task.
        self._keys: dict[str, str] = {}

    def find(self, node: TaskRunSpec, workplace: Workplace) -> Output | None:
        """As `dagy.engine.Reuse`."""
        if self._spec.tasks[node.task].cache is None:
            return None
        key, made_of = self._key(node, workplace)
        self._keys[node.id] = key
        entry = _read(self._entry(key))
        expires = self._spec.tasks[node.task].cache_expires_seconds
        if entry is not None and expires is not None and self._clock.now_ns() > entry["made_ns"] + expires * 1e9:
            entry = None
        if entry is not None and not _is_there(_output(entry["output"]), self._home):
            entry = None
        origin = None if entry is None else entry["origin"]
        self._note(node, key, made_of, origin)
        if entry is None:
            return None
        run_id, _, _ = entry["origin"].partition("/")
        return _adopted(_output(entry["output"]), node.id, workplace, self._home, run_id, origin=entry["origin"])

    def keep(self, node: TaskRunSpec, output: Output) -> None:
        """As `dagy.engine.Reuse`."""
        if self._spec.tasks[node.task].cache is None:
            return
        key = self._keys.pop(node.id)
        path = self._entry(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = output
        if output.inline is None:
            kept = replace(output, key=f"cache/{key}/{output.sha256}/{output.key.rpartition('/')[2]}")
            _link(self._home.path / output.key, self._home.path / kept.key)
        entry = {
            "output": asdict(kept),
            "origin": f"{self._run_id}/{node.id}",
            "made_ns": self._clock.now_ns(),
        }
        temporary = path.with_suffix(f".{random.getrandbits(64):016x}")
        temporary.write_text(json.dumps(entry))
        temporary.replace(path)

    def _key(self, node: TaskRunSpec, workplace: Workplace) -> tuple[str, dict[str, Any]]:
        task = self._tasks[node.task]
        spec = self._spec.tasks[node.task]
        if callable(task.cache):
            made_of: dict[str, Any] = {"key": self._own_key(task.cache, node, workplace)}
        else:
            made = fingerprint(node, spec.code_hash, _contents(workplace), pins=self._pins)
            made_of = made._asdict() if task.cache == "inputs" else {"code": made.code, "pins": made.pins}
        return sha256(json.dumps([spec.import_path, made_of], sort_keys=True).encode()).hexdigest()[:32], made_of

    def _own_key(self, key_of: Callable[..., Any], node: TaskRunSpec, workplace: Workplace) -> str:
        try:
            key = key_of(resolved_inputs(node, workplace))
        except Exception as exc:  # the boundary to user code
            raise CacheKeyError(f"The cache key of {node.id} can not be computed: {type(exc).__name__}: {exc}") from exc
        if not isinstance(key, str):
            raise CacheKeyError(
                f"The cache key of {node.id} can not be computed: its function returned {type(key).__name__}, no string"
            )
        return key

    def _entry(self, key: str) -> Path:
        return self._home.cache / f"{key}.json"

    def _note(self, node: TaskRunSpec, key: str, made_of: dict[str, Any], origin: str | None) -> None:
        line = {
            "run_id": self._run_id,
            "task_run_id": node.id,
            "key": key,
            "made_of": made_of,
            "origin": origin,
            "at": iso(self._clock.now_ns()),
        }
        path = self._home.cache / f"{path_name(node.task)}.lookups.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class FirstOf:
    """Asks several, in order."""

    def __init__(self, *several: Resume | Cache) -> None:
        self._several = several

    def find(self, node: TaskRunSpec, workplace: Workplace) -> Output | None:
        """As `dagy.engine.Reuse`."""
        for each in self._several:
            if (output := each.find(node, workplace)) is not None:
                return output
        return None

    def keep(self, node: TaskRunSpec, output: Output) -> None:
        """As `dagy.engine.Reuse`."""
        for each in self._several:
            each.keep(node, output)


def explain(home: Home, record: RunRecord, task_run_id: str) -> str:
    """Return, in words, why a task run was taken from the cache or not.

    Raises:
        NotFound: the run has no such task run, or that did not look for anything.
    """
    run_id = record.run_id
    task = next((each.task_name for each in record.task_runs if each.task_run_id == task_run_id), "")
    lookups = _lines(home.cache / f"{path_name(task)}.lookups.jsonl")
    own = (run_id, task_run_id)
    at = [number for number, each in enumerate(lookups) if (each["run_id"], each["task_run_id"]) == own]
    if not at:
        raise NotFound(f"Task run {task_run_id} of run {run_id} did not look into the cache")
    this = lookups[at[-1]]
    earlier = [each for each in lookups[: at[-1]] if (each["run_id"], each["task_run_id"]) != own]
    if this["origin"] is not None:
        return f"{task_run_id} was taken from the cache: {this['origin']} made it, key {this['key']}"
    if not earlier:
        return f"{task_run_id} was not in the cache: no earlier run looked for this task, key {this['key']}"
    nearest = min(reversed(earlier), key=lambda each: len(_differing(each["made_of"], this["made_of"])))
    told = _differing(nearest["made_of"], this["made_of"])
    what = f"differs in {' and '.join(told)}" if told else "has the same key, so that output had expired or failed"
    return f"{task_run_id} was not in the cache; the nearest, of run {nearest['run_id']}, {what}"


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    if "key" in before or "key" in now:
        return [] if before == now else ["the key of its own function"]
    as_fingerprint = [Fingerprint(each["code"], each.get("inputs", {}), each.get("pins", "")) for each in (before, now)]
    return as_fingerprint[0].differences(as_fingerprint[1])


def _adopted(
    output: Output, task_run_id: str, workplace: Workplace, home: Home, run_id: str, *, origin: str | None = None
) -> Output:
    """Make an earlier output this task run's own: retention may take the earlier run away."""
    mine = workplace.outputs.key_of(task_run_id, output.key.rpartition("/")[2])
    if output.inline is None:
        _link(home.path / output.key, home.path / mine)
    return replace(output, key=mine, origin=origin or output.origin or f"{run_id}/{task_run_id}")


def _is_there(output: Output, home: Home) -> bool:
    return output.inline is not None or (home.path / output.key).exists()


def _link(source: Path, target: Path) -> None:
    """Give the file, or each file of the folder, a second name; outputs never change, so that is a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        for each in source.rglob("*"):
            if each.is_file():
                _link(each, target / each.relative_to(source))
    else:
        with suppress(FileExistsError):
            os.link(source, target)


def _contents(workplace: Workplace) -> Callable[[str], str]:
    def content_of(task_run_id: str) -> str:
        if task_run_id in workplace.item_counts:
            return _content_of_items(task_run_id, workplace.item_counts[task_run_id], content_of)
        output = workplace.results.get(task_run_id)
        return _content_of_failure(workplace.failures.get(task_run_id)) if output is None else output.sha256

    return content_of


def _content_of_failure(message: str | None) -> str:
    return "" if message is None else short_hash(message)


def _content_of_items(task_run_id: str, count: int, content_of: Callable[[str], str]) -> str:
    return short_hash([content_of(f"{task_run_id}[{item}]") for item in range(count)])


def _output(facts: dict[str, Any]) -> Output:
    known = {name: value for name, value in facts.items() if name in Output.__slots__}
    return Output(**known)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return entry


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []
