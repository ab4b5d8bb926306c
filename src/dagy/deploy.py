"""Deploying: an artifact is checked, uploaded to the bucket, and registered where an API is configured.

This release has no server to register with. Without an API URL the upload is all that happens; with one, deploying
stops before it uploads anything.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dagy.client.profiles import load_profiles, resolve_api_url, resolve_profile
from dagy.errors import ConfigError, InvalidArtifact, NotAvailableYet, ParameterError
from dagy.flow_artifact import Artifact, open_artifact
from dagy.local.home import Home
from dagy.names import path_name
from dagy.object_store import ObjectStoreError, S3ObjectStore, aws_client

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from dagy.flows import Flow
    from dagy.spec import FlowSpec

DEFAULT_TIMEZONE = "America/New_York"
DEFAULT_PREFIX = "dagy"
DEFAULT_REGION = "us-east-1"
DEFAULT_BUCKET = "dagy-artifacts"

STATUSES = ("ACTIVE", "INACTIVE")
EXECUTORS = ("lambda", "step-functions", "ecs", "local", "ray")
EXECUTION_MODES = ("in-process", "task-isolated", "nano", "micro", "small", "medium", "large", "xlarge")

_SHOWN_FIRE_TIMES = 3


@dataclass(frozen=True, slots=True)
class DeployResult:
    """What a deployment did.

    Attributes:
        uri: where the artifact is, `s3://<bucket>/<key>`.
        code_hash: of the artifact.
        registered: whether an API knows the deployment; otherwise only the upload happened.
        schedule: the cron expression, or None.
        timezone: the zone of the schedule.
        next_fire_times: the next three of the schedule, aware; empty without one.
    """

    deployment_name: str
    flow_name: str
    flow_version: str
    namespace: str
    bucket: str
    key: str
    code_hash: str
    registered: bool
    schedule: str | None
    timezone: str
    next_fire_times: tuple[datetime, ...]

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def deploy_artifact(
    artifact_path: str | os.PathLike[str],
    *,
    deployment_name: str,
    flow_name: str | None = None,
    flow_version: str | None = None,
    api_url: str | None = None,
    bucket: str | None = None,
    prefix: str = DEFAULT_PREFIX,
    schedule: str | None = None,
    timezone: str = DEFAULT_TIMEZONE,
    status: str = "ACTIVE",
    default_executor: str | None = None,
    execution_mode: str = "in-process",
    force: bool = False,
    dep_package_slugs: Sequence[str] = (),
    namespace: str | None = None,
    tags: Mapping[str, str] | None = None,
    token: str | None = None,
    home: str | os.PathLike[str] | None = None,
    s3_client: Any = None,
    sts_client: Any = None,
    environ: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> DeployResult:
    """Upload an artifact, once everything about it and the deployment has been checked, and return where it is.

    Args:
        artifact_path: what `build_artifact` made.
        deployment_name: by which runs are started.
        flow_name, flow_version: what the artifact must hold; its own when absent.
        api_url: the API, instead of `DAGY_API_URL` or the one of the profile in use; `""` for none.
        bucket: instead of `DAGY_ARTIFACT_BUCKET`, or `dagy-artifacts-<account>-<region>` of the AWS account in use.
        prefix: what all keys in the bucket begin with.
        schedule: a cron expression of five fields.
        timezone: the zone of the schedule.
        status: `ACTIVE` or `INACTIVE`.
        default_executor: `lambda`, `step-functions`, `ecs`, `local` or `ray`.
        execution_mode: `in-process`, `task-isolated`, or the name of a tier.
        force: deploy also when the code has not changed.
        dep_package_slugs: dependency packages to attach, in this order.
        namespace, tags: instead of the artifact's own.
        token: for the API.
        home: the local directory, instead of `DAGY_LOCAL_DIR` or `~/.dagy`.
        s3_client, sts_client: clients of boto3, instead of ones made from the environment of this process.
        environ: the environment.
        now: from when on fire times are shown.

    Raises:
        ArtifactNotFound: there is no such file.
        InvalidArtifact: it is not intact, or holds another flow or version.
        ParameterError: a setting has no legal value.
        NotAvailableYet: an API is configured.
        ObjectStoreError: the bucket can not be used.
    """
    del force, token  # detecting changes and registering need a server
    environ = os.environ if environ is None else environ
    _check_settings(deployment_name, status, default_executor, execution_mode, dep_package_slugs, tags)
    if timezone != DEFAULT_TIMEZONE:
        time_zone(timezone)
    fire_times = next_fire_times(schedule, timezone, now=now) if schedule is not None else ()
    artifact = open_artifact(Path(artifact_path))
    spec = _checked_spec(artifact, flow_name, flow_version)
    _refuse_registration(_api_url(api_url, home, environ))
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    place = _bucket(bucket, environ, region, sts_client)
    key = artifact_key(spec.name, spec.version, prefix=prefix)
    S3ObjectStore(place.name, client=s3_client, region=region, owner=place.owner).put_file(key, artifact.path)
    return DeployResult(
        deployment_name=deployment_name,
        flow_name=spec.name,
        flow_version=spec.version,
        namespace=artifact.metadata.namespace if namespace is None else namespace,
        bucket=place.name,
        key=key,
        code_hash=artifact.metadata.code_hash,
        registered=False,
        schedule=schedule,
        timezone=timezone,
        next_fire_times=fire_times,
    )


def upload_artifact_via_api(
    artifact_path: str | os.PathLike[str],
    *,
    deployment_name: str,
    flow_name: str | None = None,
    flow_version: str | None = None,
    api_url: str | None = None,
    dep_package_slugs: Sequence[str] = (),
    token: str | None = None,
    home: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> DeployResult:
    """Upload an artifact through an API that keeps artifacts itself, and register it; arguments as `deploy_artifact`.

    Raises:
        ArtifactNotFound, InvalidArtifact: as `deploy_artifact`.
        ConfigError: no API is configured.
        NotAvailableYet: always; this release has no server.
    """
    del token
    environ = os.environ if environ is None else environ
    _check_settings(deployment_name, STATUSES[0], None, EXECUTION_MODES[0], dep_package_slugs, None)
    _checked_spec(open_artifact(Path(artifact_path)), flow_name, flow_version)
    _refuse_registration(_api_url(api_url, home, environ))
    raise ConfigError("Missing Dagy API URL. Set DAGY_API_URL or run 'dagy config'.")


def deploy_flow(
    flow: Flow[Any, Any],
    *,
    name: str | None = None,
    namespace: str | None = None,
    schedule: str | None = None,
    timezone: str = DEFAULT_TIMEZONE,
    tags: Mapping[str, str] | None = None,
    bucket: str | None = None,
) -> DeployResult:
    """Build a flow and deploy its artifact; `Flow.deploy` documents the arguments, `deploy_artifact` the errors."""
    from dagy.packaging import build_artifact  # noqa: PLC0415 - deploying an artifact does not need the builder

    built = build_artifact(flow, namespace=namespace, tags=tags)
    for warning in built.warnings:
        print(warning.shown(os.getcwd()), file=sys.stderr)
    return deploy_artifact(
        built,
        deployment_name=flow.name if name is None else name,
        schedule=schedule,
        timezone=timezone,
        default_executor=flow.executor,
        execution_mode=flow.execution_mode or EXECUTION_MODES[0],
        tags=tags,
        bucket=bucket,
    )


def artifact_key(flow_name: str, flow_version: str, *, prefix: str = DEFAULT_PREFIX) -> str:
    """Return `<prefix>/flows/<flow>/<version>/artifact.zip`."""
    parts = (prefix.strip("/"), "flows", path_name(flow_name), path_name(flow_version), "artifact.zip")
    return "/".join(part for part in parts if part)


def next_fire_times(schedule: str, timezone: str, *, now: datetime | None = None) -> tuple[datetime, ...]:
    """Return the next three moments at which a schedule fires, in its zone; fewer if it ends before.

    Local hours that a change of the clock skips or doubles are treated as Debian's cron does.

    Args:
        schedule: a cron expression of five fields.
        timezone: an IANA name such as `Europe/Berlin`.
        now: an aware moment; the present when absent.

    Raises:
        ParameterError: the expression is not valid or never fires, or there is no such zone.
    """
    from itertools import islice  # noqa: PLC0415 - only a schedule needs it

    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only a schedule needs it

    zone = time_zone(timezone)
    if len(schedule.split()) != 5:
        raise ParameterError(
            f"Schedule {schedule!r} is not a cron expression of five fields (minute hour day month weekday), "
            "for example '0 6 * * *'"
        )
    try:
        times = CronSim(schedule, datetime.now(zone) if now is None else now.astimezone(zone))
        found = tuple(islice(times, _SHOWN_FIRE_TIMES))
    except CronSimError as exc:
        raise ParameterError(f"Schedule {schedule!r} is not a valid cron expression: {str(exc).lower()}") from exc
    if not found:
        raise ParameterError(f"Schedule {schedule!r} never fires")
    return found


def time_zone(name: str) -> ZoneInfo:
    """Return the time zone of that IANA name.

    Raises:
        ParameterError: there is none; the message suggests a similar one.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones  # noqa: PLC0415 - only schedules need it

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:  # OSError: a folder of zones, such as `Europe`
        from difflib import get_close_matches  # noqa: PLC0415 - only a wrong name needs it

        near = get_close_matches(name, sorted(available_timezones()), n=1)
        way_out = f"did you mean {near[0]!r}?" if near else "use an IANA name such as 'Europe/Berlin'"
        raise ParameterError(f"There is no time zone {name!r}; {way_out}") from exc


def _check_settings(
    deployment_name: str,
    status: str,
    default_executor: str | None,
    execution_mode: str,
    dep_package_slugs: Sequence[str],
    tags: Mapping[str, str] | None,
) -> None:
    if not deployment_name.strip() or not deployment_name.isprintable():
        raise ParameterError(f"The name of a deployment must be one line of text, got {deployment_name!r}")
    _check_one_of("status", status, STATUSES)
    _check_one_of("execution mode", execution_mode, EXECUTION_MODES)
    if default_executor is not None:
        _check_one_of("default executor", default_executor, EXECUTORS)
    if isinstance(dep_package_slugs, str):
        raise ParameterError(f"Dependency packages must be a list of slugs, got {dep_package_slugs!r}")
    if any(not isinstance(each, str) for pair in (tags or {}).items() for each in pair):
        raise ParameterError(f"Tags must be strings by strings, got {dict(tags or {})!r}")


def _check_one_of(what: str, value: str, legal: Sequence[str]) -> None:
    if value not in legal:
        raise ParameterError(f"There is no {what} {value!r}; use one of {', '.join(legal)}")


def _checked_spec(artifact: Artifact, flow_name: str | None, flow_version: str | None) -> FlowSpec:
    spec = artifact.spec
    expected = (flow_name or spec.name, flow_version or spec.version)
    if expected != (spec.name, spec.version):
        raise InvalidArtifact(
            f"Artifact flow spec mismatch. Expected {':'.join(expected)}, got {spec.name}:{spec.version}"
        )
    return spec


def _api_url(api_url: str | None, home: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    if api_url is not None:
        return api_url or None
    profiles = load_profiles(Home.from_environ(environ, home).path, warn=warnings.warn)
    return resolve_api_url(environ, resolve_profile(profiles, environ))


def _refuse_registration(api_url: str | None) -> None:
    if api_url is not None:
        raise NotAvailableYet(
            f"Registering a deployment with the API at {api_url} needs a server, which this release does not have; "
            "without DAGY_API_URL and without a profile only the artifact is uploaded"
        )


class _Place(NamedTuple):
    """A bucket, and the account that must own it where it is known."""

    name: str
    owner: str | None = None


def _bucket(bucket: str | None, environ: Mapping[str, str], region: str | None, sts_client: Any) -> _Place:
    wished = bucket or environ.get("DAGY_ARTIFACT_BUCKET")
    return _Place(wished) if wished else _bucket_of_account(region, sts_client)


def _bucket_of_account(region: str | None, sts_client: Any) -> _Place:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - 200 ms that only AWS has to cost
    from botocore.session import Session  # noqa: PLC0415 - see above

    try:
        region = region or Session().get_config_variable("region") or DEFAULT_REGION
        client = aws_client("sts", region=region) if sts_client is None else sts_client
        account = client.get_caller_identity()["Account"]
    except (BotoCoreError, ClientError, ObjectStoreError):
        return _Place(DEFAULT_BUCKET)
    return _Place(f"{DEFAULT_BUCKET}-{account}-{region}", account)
