"""`dagy deploy`: uploads an artifact and, where an API is configured, registers the deployment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dagy.errors import ExitCode

if TYPE_CHECKING:
    import argparse

    from dagy.deploy import DeployResult

_NOT_REGISTERED = (
    "Nothing was registered, because no API URL is configured: set DAGY_API_URL or run 'dagy config', and deploy again"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy deploy` takes."""
    option = parser.add_argument
    option("artifact", metavar="<artifact.zip>", help="what `dagy build` printed")
    option("--deployment", required=True, metavar="<name>", help="the name by which runs are started")
    option("--flow-name", metavar="<name>", help="the flow that the artifact must hold (its own)")
    option("--flow-version", metavar="<version>", help="the version that the artifact must hold (its own)")
    option("--namespace", metavar="<path>", help="instead of the artifact's own, for example data/ingestion")
    option("--bucket", metavar="<bucket>", help="the S3 bucket (DAGY_ARTIFACT_BUCKET, or the one of your AWS account)")
    option("--prefix", default="dagy", metavar="<prefix>", help="what keys in the bucket begin with (dagy)")
    option("--profile", metavar="<name>", help="the profile to use")
    option("--schedule", metavar="<cron>", help="five fields, for example '0 6 * * *'")
    option("--timezone", default="America/New_York", metavar="<tz>", help="of the schedule (America/New_York)")
    option("--status", default="ACTIVE", metavar="<status>", help="ACTIVE or INACTIVE (ACTIVE)")
    option("--default-executor", metavar="<exec>", help="lambda, step-functions, ecs, local or ray")
    option(
        "--execution-mode",
        default="in-process",
        metavar="<mode>",
        help="in-process, task-isolated, or a tier from nano to xlarge (in-process)",
    )
    option("--force", action="store_true", help="deploy also when the code has not changed")
    option("--dep-packages", nargs="+", default=[], metavar="SLUG", help="dependency packages to attach")


def run(args: argparse.Namespace) -> int:
    """Deploy the artifact and print where it is.

    Raises:
        DagyError: the artifact, a setting or the bucket can not be used, or an API is configured.
    """
    from dagy.cli.output import warn  # noqa: PLC0415 - `dagy deploy --help` does without
    from dagy.client.profiles import load_profiles, resolve_api_url, resolve_profile  # noqa: PLC0415 - see above
    from dagy.deploy import deploy_artifact  # noqa: PLC0415 - see above

    profile = resolve_profile(load_profiles(args.home, warn=warn), args.environ, name=args.profile)
    result = deploy_artifact(
        args.artifact,
        deployment_name=args.deployment,
        flow_name=args.flow_name,
        flow_version=args.flow_version,
        api_url=resolve_api_url(args.environ, profile) or "",
        bucket=args.bucket,
        prefix=args.prefix,
        schedule=args.schedule,
        timezone=args.timezone,
        status=args.status,
        default_executor=args.default_executor,
        execution_mode=args.execution_mode,
        force=args.force,
        dep_package_slugs=args.dep_packages,
        namespace=args.namespace,
        home=args.home,
        environ=args.environ,
    )
    registered = f" and registered as {result.flow_name}:{result.flow_version}" if result.registered else ""
    print(f"Deployed to {result.uri}{registered}")
    sys.stdout.flush()
    if not args.quiet:
        for sentence in _notes(result):
            warn(sentence)
    return ExitCode.SUCCESS


def _notes(result: DeployResult) -> list[str]:
    notes = [] if result.registered else [_NOT_REGISTERED]
    if result.schedule is not None:
        times = ", ".join(each.isoformat(sep=" ", timespec="minutes") for each in result.next_fire_times)
        notes.append(f"Schedule '{result.schedule}' in time zone {result.timezone}, next fire times: {times}")
    return notes
