"""From the body of a flow to its graph: the body runs once, and every call of a task becomes a task run."""

from __future__ import annotations

import inspect
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from dagy import checks, parameters
from dagy.errors import DagyError, FlowDefinitionError, ParameterError
from dagy.fingerprints import code_hash
from dagy.flows import Flow
from dagy.outputs import AllowFailed, Condition, FirstOf, TaskOutput
from dagy.references import NotEncodable, Upstream, class_path, encode
from dagy.spec import TEAR_DOWN, FlowSpec, TaskRunSpec, TaskSpec
from dagy.tasks import CallOptions, Task, Unmapped, building
from dagy.tracebacks import user_traceback


@dataclass(frozen=True, slots=True)
class BuiltFlow:
    """A graph together with what only this process has: the parameter values and the tasks' functions."""

    flow: Flow[Any, Any]
    spec: FlowSpec
    parameters: Mapping[str, Any]
    tasks: Mapping[str, Task[Any, Any]]


def build_flow(flow: Flow[Any, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BuiltFlow:
    """Return the graph that a flow makes of its arguments; `Flow.build` documents the errors."""
    if inspect.iscoroutinefunction(flow.fn):
        raise FlowDefinitionError(
            f"Flow {flow.name!r} is an async function; its body only declares the graph, so write it with a plain def"
        )
    values = flow_parameters(flow, args, kwargs)
    recorder = _Recorder(flow)
    token = building.set(recorder)
    try:
        returned = _body(flow, values)
        outputs = recorder.encode_outputs(returned)
    finally:
        building.reset(token)
    return BuiltFlow(flow=flow, spec=recorder.spec(outputs), parameters=values, tasks=recorder.tasks)


def _body(flow: Flow[Any, Any], values: Mapping[str, Any]) -> Any:
    try:
        return flow.fn(**values)
    except DagyError:
        raise
    except Exception as exc:  # the boundary to user code
        raise FlowDefinitionError(
            f"Flow {flow.name!r} raised while it was built: {type(exc).__name__}: {exc}",
            user_traceback=user_traceback(exc),
        ) from exc


def flow_parameters(flow: Flow[Any, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flow's parameters with defaults filled in and types checked."""
    signature = inspect.signature(flow.fn)
    owner = f"flow {flow.name!r}"
    _refuse_unnamed(signature, owner)
    if args:
        names = list(signature.parameters)
        if len(args) > len(names):
            raise ParameterError(f"Flow {flow.name!r} takes {len(names)} parameters, got {len(args)}")
        kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
    annotations = parameters.hints(flow.fn) if flow.validate_parameters else {}
    return parameters.bind_values(signature, annotations, kwargs, owner=owner)


def flow_parameters_from_text(flow: Flow[Any, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that texts from a command line mean for the flow's parameters."""
    annotations = parameters.hints(flow.fn)
    owner = f"flow {flow.name!r}"
    return {
        name: parameters.parse_text(text, annotations.get(name, Any), name=name, owner=owner)
        for name, text in texts.items()
    }


def _refuse_unnamed(signature: inspect.Signature, owner: str) -> None:
    for each in signature.parameters.values():
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
            raise FlowDefinitionError(
                f"Parameter {each.name!r} of {owner} has no name to pass it by; write it as an ordinary parameter"
            )


class SubmittedFlow(Task[Any, Any]):
    """A flow as a task of another one: calling it means a run of its own."""

    def __init__(self, flow: Flow[Any, Any]) -> None:
        super().__init__(flow.fn, name=flow.name, validate_parameters=flow.validate_parameters)
        self.flow = flow


class _Recorder:
    """Notes the calls of tasks in the order in which the body makes them."""

    def __init__(self, flow: Flow[Any, Any]) -> None:
        self.tasks: dict[str, Task[Any, Any]] = {}
        self._flow = flow
        self._nodes: list[TaskRunSpec] = []
        self._calls: dict[str, int] = {}
        self._signatures: dict[str, inspect.Signature] = {}
        self._groups: list[str] = []
        self._conditions: list[Any] = []
        self._submitted: dict[str, SubmittedFlow] = {}

    def record(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> TaskOutput:
        upstream = Upstream()
        arguments = self._bound(task, args, kwargs)
        inputs = {name: self._encode(task, name, value, upstream) for name, value in arguments.items()}
        return self._add(task, inputs, upstream, options)

    def record_map(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> TaskOutput:
        upstream = Upstream()
        arguments = self._bound(task, args, kwargs)
        fixed = {name: value.value for name, value in arguments.items() if isinstance(value, Unmapped)}
        lists = {name: _listed(task, name, value) for name, value in arguments.items() if name not in fixed}
        _check_lengths(task, lists)
        inputs = {
            name: self._encode(task, name, fixed[name], upstream)
            if name in fixed
            else {"$each": self._encode(task, name, lists[name], upstream)}
            for name in arguments
        }
        mapping = {"over": list(lists), "name": options.map_name, "max_concurrency": options.max_concurrency}
        return self._add(task, inputs, upstream, options, mapping)

    def submit(self, flow: Flow[Any, Any], parameters: dict[str, Any]) -> TaskOutput:
        task = self._submitted.get(flow.name)
        if task is None:
            task = self._submitted[flow.name] = SubmittedFlow(flow)
        return self.record(task, (), parameters, CallOptions(kind="flow"))

    def inline(self, flow: Flow[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        number = self._calls[f"flow {flow.name}"] = self._calls.get(f"flow {flow.name}", 0) + 1
        group = f"{flow.name}-{number}"
        self._groups.append(f"{self._groups[-1]}/{group}" if self._groups else group)
        try:
            return flow.fn(*args, **kwargs)
        finally:
            self._groups.pop()

    @contextmanager
    def under(self, condition: Any) -> Iterator[None]:
        """Put what is recorded meanwhile under a condition."""
        self._conditions.append(condition)
        try:
            yield
        finally:
            self._conditions.pop()

    @contextmanager
    def torn_down(self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
        """Record, after what is recorded meanwhile, a call that follows it whatever becomes of it."""
        first = len(self._nodes)
        yield
        upstream = Upstream()
        arguments = self._bound(task, args, kwargs)
        inputs = {name: self._encode(task, name, value, upstream) for name, value in arguments.items()}
        set_up = tuple(upstream.ids)
        block = tuple(node.id for node in self._nodes[first:])
        upstream.ids.update(dict.fromkeys(block))
        self._add(task, inputs, upstream, CallOptions(trigger_rule=TEAR_DOWN), set_up=set_up, tears_down=block)

    def _add(
        self,
        task: Task[Any, Any],
        inputs: dict[str, Any],
        upstream: Upstream,
        options: CallOptions,
        mapping: dict[str, Any] | None = None,
        set_up: tuple[str, ...] = (),
        tears_down: tuple[str, ...] = (),
    ) -> TaskOutput:
        when = self._condition(task, options, upstream)
        for each in options.after:
            self._encode(task, "after", each, upstream)
        name = options.name or task.name
        number = self._calls[name] = self._calls.get(name, 0) + 1
        node = TaskRunSpec(
            id=f"{name}-{number}",
            task=task.name,
            inputs=inputs,
            depends_on=tuple(upstream.ids),
            tolerates=tuple(upstream.tolerated),
            set_up=set_up,
            tears_down=tears_down,
            kind=options.kind,
            when=when,
            trigger_rule=options.trigger_rule or ("none_failed" if upstream.alternatives else "all_succeeded"),
            map=mapping,
            group=self._groups[-1] if self._groups else None,
            options=_overrides(task, options.settings),
        )
        self._nodes.append(node)
        return TaskOutput(node.id)

    def _condition(self, task: Task[Any, Any], options: CallOptions, upstream: Upstream) -> Any:
        conditions = list(self._conditions)
        if options.when is not None:
            conditions.append(options.when)
        if not conditions:
            return None
        whole = conditions[0]
        for each in conditions[1:]:
            whole = Condition("and", (whole, each))
        return self._encode(task, "when", whole, upstream)

    def _bound(self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._signature(task).bind(*args, **kwargs).arguments
        except TypeError as exc:
            raise FlowDefinitionError(
                f"Task {task.name!r} is called with wrong arguments in flow {self._flow.name!r}: {exc}"
            ) from None

    def encode_outputs(self, returned: Any) -> Any:
        try:
            return encode(returned, Upstream())
        except NotEncodable as exc:
            raise FlowDefinitionError(
                f"Flow {self._flow.name!r} returns a {_kind(exc.value)}, which can not be written into its spec; "
                "return task outputs, JSON values or nothing"
            ) from None

    def spec(self, outputs: Any) -> FlowSpec:
        flow = self._flow
        signature = inspect.signature(flow.fn)
        options = {
            "executor": flow.executor,
            "execution_mode": flow.execution_mode,
            "timeout_seconds": flow.timeout_seconds,
        }
        return FlowSpec(
            name=flow.name,
            version=flow.version,
            namespace=flow.namespace or "",
            description=flow.description,
            tags=flow.tags,
            entrypoint=import_path(flow.fn),
            parameters=parameters.json_schema(signature, parameters.hints(flow.fn)),
            options={key: value for key, value in options.items() if value is not None},
            tasks={name: task_spec(task, self._signatures[name]) for name, task in self.tasks.items()},
            task_runs=tuple(self._nodes),
            outputs=outputs,
        )

    def _signature(self, task: Task[Any, Any]) -> inspect.Signature:
        known = self.tasks.get(task.name)
        if known is task:
            return self._signatures[task.name]
        if known is not None:
            raise FlowDefinitionError(
                f"Two tasks of flow {self._flow.name!r} are named {task.name!r} ({import_path(known.fn)} and "
                f"{import_path(task.fn)}); give one of them another name with @task(name=...)"
            )
        self.tasks[task.name] = task
        self._signatures[task.name] = inspect.signature(task.fn)
        return self._signatures[task.name]

    def _encode(self, task: Task[Any, Any], name: str, value: Any, upstream: Upstream) -> Any:
        try:
            return encode(value, upstream)
        except NotEncodable as exc:
            raise FlowDefinitionError(
                f"Task {task.name!r} is given a {_kind(exc.value)} in argument {name!r}, which can not be written "
                f"into the flow's spec; {_way_out(exc.value)}, or make it inside the task"
            ) from None
        except RecursionError:
            raise FlowDefinitionError(f"Argument {name!r} of task {task.name!r} contains itself") from None


def _listed(task: Task[Any, Any], name: str, value: Any) -> Any:
    """Return a mapped argument: a list of the body, or an output that will be one."""
    if isinstance(value, TaskOutput):
        return value
    if isinstance(value, FirstOf):
        raise FlowDefinitionError(
            f"map() of task {task.name!r} goes over {name!r}: the result of choose() can not be mapped, because which "
            "branch runs is not known; pass it to a task that returns the list, and map over the output of that"
        )
    if isinstance(value, AllowFailed):
        raise FlowDefinitionError(
            f"map() of task {task.name!r} goes over {name!r}, which holds results and failures and is not a list; pass "
            "allow_failed() to a task that returns the list, and map over the output of that"
        )
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        raise FlowDefinitionError(
            f"map() of task {task.name!r} goes over {name!r}, which is {type(value).__name__} and not a list; wrap it "
            "in unmapped() to pass it whole to every item"
        )
    return list(value)


def _check_lengths(task: Task[Any, Any], lists: dict[str, Any]) -> None:
    if not lists:
        raise FlowDefinitionError(f"map() of task {task.name!r} has nothing to go over; give it a list")
    lengths = {name: len(value) for name, value in lists.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise FlowDefinitionError(
            f"map() of task {task.name!r} goes over lists of unequal length: {told}; wrap one in unmapped() to pass it "
            "whole to every item"
        )


def _overrides(task: Task[Any, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of one call as JSON."""
    if not settings:
        return {}
    changed = task.with_settings(settings)
    document = {name: value for name, value in settings.items() if name not in ("retries", "retry_delay_seconds")}
    if changed.retry_rules != task.retry_rules:
        document["retries"] = changed.retries
        document["retry_delay_seconds"] = list(changed.retry_rules[0].delays_seconds) or None
    return document


def task_spec(task: Task[Any, Any], signature: inspect.Signature) -> TaskSpec:
    """Return the settings of a task as data."""
    return TaskSpec(
        name=task.name,
        import_path=import_path(task.fn),
        description=task.description,
        executor=task.executor,
        retries=task.retries,
        retry_delays_seconds=task.retry_rules[0].delays_seconds if task.retry_rules else (),
        retry_rules=tuple(
            {"exceptions": [class_path(kind) for kind in rule.exceptions], "delays_seconds": list(rule.delays_seconds)}
            for rule in task.retry_rules
            if rule.exceptions != (Exception,)
        ),
        retry_jitter_factor=task.retry_jitter_factor,
        timeout_seconds=task.timeout_seconds,
        concurrency_limit=task.concurrency_limit,
        isolation=task.isolation,
        serializer=task.serializer,
        code_hash=_code_hash(task.fn),
        cache="callable" if callable(task.cache) else task.cache,
        cache_expires_seconds=task.cache_expires_seconds,
        validate_parameters=task.validate_parameters,
        signature={name: _annotation_text(each.annotation) for name, each in signature.parameters.items()},
        returns={"type": _annotation_text(signature.return_annotation)},
    )


#: Reading the source of a function takes up to 0.5 ms, which a flow that is built again need not pay again.
_code_hashes: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()


def _code_hash(fn: Any) -> str:
    if not isinstance(fn, FunctionType):
        return code_hash(fn)  # another callable may be neither hashable nor weakly referenced
    known = _code_hashes.get(fn)
    if known is None:
        known = _code_hashes[fn] = code_hash(fn)
    return known


def import_path(fn: Any) -> str:
    """Return `module:qualname`, by which another process finds a function."""
    named = fn if hasattr(fn, "__qualname__") else type(fn)  # a partial or another callable object
    return f"{named.__module__}:{named.__qualname__}"


def with_namespace(spec: FlowSpec, namespace: str) -> FlowSpec:
    """Return the same graph under another namespace."""
    return replace(spec, namespace=namespace)


def _annotation_text(annotation: Any) -> str | None:
    return None if annotation is inspect.Signature.empty else checks.describe(annotation)


def _way_out(value: object) -> str:
    """Return what to pass instead of a value that has no form in a spec."""
    for plain in (list, tuple, set, frozenset, dict):
        if isinstance(value, plain):
            return f"pass {plain.__name__}(...) of it"
    if hasattr(value, "tolist"):
        return "pass its .tolist()"  # the arrays and scalars of numpy and what is like them
    if isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
        return "pass list(...) of it"
    return "pass JSON values, dates, enums, dataclasses or pydantic models"


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"class {value.__qualname__}, defined inside a function"
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
