"""`dagy.deploy`: everything is checked before anything is uploaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from dagy.deploy import (
    EXECUTION_MODES,
    EXECUTORS,
    DeployResult,
    artifact_key,
    deploy_artifact,
    next_fire_times,
    time_zone,
    upload_artifact_via_api,
)
from dagy.errors import ArtifactNotFound, ConfigError, ExitCode, InvalidArtifact, NotAvailableYet, ParameterError, shown
from dagy.loader import load_flow
from dagy.object_store import ObjectStoreError
from dagy.packaging import build_artifact

NOON = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an AWS on this machine, with a bucket `artifacts`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client(url, "s3").create_bucket(Bucket="artifacts")
    yield url
    server.stop()


def client(endpoint: str, service: str):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of the flow `daily:1.2.0` in the namespace `etl`."""
    root = tmp_path_factory.mktemp("project")
    (root / "daily_of_deploy.py").write_text(
        "from dagy import flow\n@flow(name='daily', version='1.2.0', namespace='etl')\ndef daily(): ...\n"
    )
    flow = load_flow("daily_of_deploy.py:daily", cwd=root)
    return build_artifact(flow, output_dir=root, cwd=root, environ={}).path


class NoClient:
    """Stands where a client of AWS would; whoever uses it fails."""


@pytest.fixture
def checked(artifact: Path, tmp_path: Path):
    """Deploy with settings of the test's, in a way that any upload fails."""

    def deploy(**settings: object) -> DeployResult:
        arguments = {
            "artifact_path": artifact,
            "deployment_name": "my-daily",
            "bucket": "artifacts",
            "s3_client": NoClient(),
            "environ": {"DAGY_LOCAL_DIR": str(tmp_path / "home")},
            **settings,
        }
        return deploy_artifact(**arguments)

    return deploy


class TestUpload:
    def test_puts_the_artifact_under_its_key_and_says_where(self, artifact, endpoint, tmp_path):
        s3 = client(endpoint, "s3")
        result = deploy_artifact(
            artifact,
            deployment_name="my-daily",
            bucket="artifacts",
            s3_client=s3,
            environ={"DAGY_LOCAL_DIR": str(tmp_path)},
        )
        key = "dagy/flows/daily/1.2.0/artifact.zip"
        assert s3.get_object(Bucket="artifacts", Key=key)["Body"].read() == artifact.read_bytes()
        with zipfile.ZipFile(artifact) as archive:
            code_hash = json.loads(archive.read("metadata.json"))["code_hash"]
        assert result == DeployResult(
            deployment_name="my-daily",
            flow_name="daily",
            flow_version="1.2.0",
            namespace="etl",
            bucket="artifacts",
            key=key,
            code_hash=code_hash,
            registered=False,
            schedule=None,
            timezone="America/New_York",
            next_fire_times=(),
        )
        assert result.uri == f"s3://artifacts/{key}"

    def test_goes_to_the_bucket_of_the_environment(self, artifact, endpoint, tmp_path):
        environ = {"DAGY_LOCAL_DIR": str(tmp_path), "DAGY_ARTIFACT_BUCKET": "artifacts"}
        s3 = client(endpoint, "s3")
        result = deploy_artifact(artifact, deployment_name="d", prefix="/p/q/", s3_client=s3, environ=environ)
        assert result.uri == "s3://artifacts/p/q/flows/daily/1.2.0/artifact.zip"

    @pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
    def test_goes_to_the_bucket_of_the_account_without_another(self, artifact, endpoint, tmp_path, variable):
        s3, sts = client(endpoint, "s3"), client(endpoint, "sts")
        s3.create_bucket(
            Bucket="dagy-artifacts-123456789012-eu-west-1",
            CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
        )
        environ = {"DAGY_LOCAL_DIR": str(tmp_path), variable: "eu-west-1"}
        result = deploy_artifact(artifact, deployment_name="d", s3_client=s3, sts_client=sts, environ=environ)
        assert result.bucket == "dagy-artifacts-123456789012-eu-west-1"
        s3.delete_object(Bucket=result.bucket, Key=result.key)
        s3.delete_bucket(Bucket=result.bucket)

    def test_demands_that_the_guessed_bucket_belongs_to_the_account(self, artifact, endpoint, tmp_path):
        s3, sent = client(endpoint, "s3"), []
        s3.meta.events.register("before-send.s3", lambda request, **_: sent.append(dict(request.headers)))
        environ = {"DAGY_LOCAL_DIR": str(tmp_path), "AWS_REGION": "eu-north-1"}
        with pytest.raises(ObjectStoreError, match="There is no bucket 'dagy-artifacts-123456789012-eu-north-1'"):
            deploy_artifact(
                artifact, deployment_name="d", s3_client=s3, sts_client=client(endpoint, "sts"), environ=environ
            )
        assert sent[0]["x-amz-expected-bucket-owner"] == b"123456789012"

    def test_goes_to_the_general_bucket_when_the_account_is_unknown(self, artifact, endpoint, tmp_path):
        sts = client(endpoint, "sts")
        with Stubber(sts) as stub:
            stub.add_client_error("get_caller_identity", "AccessDenied", http_status_code=403)
            with pytest.raises(ObjectStoreError, match="There is no bucket 'dagy-artifacts';"):
                deploy_artifact(
                    artifact,
                    deployment_name="d",
                    s3_client=client(endpoint, "s3"),
                    sts_client=sts,
                    environ={"DAGY_LOCAL_DIR": str(tmp_path)},
                )

    def test_of_a_flow_object_builds_it_first(self, endpoint, tmp_path):
        (tmp_path / "etl.py").write_text(
            "from dagy import flow\n@flow(version='2')\ndef etl(): ...\n"
            "if __name__ == '__main__':\n"
            "    result = etl.deploy(name='nightly', namespace='a/b', tags={'team': 'x'}, bucket='artifacts')\n"
            "    print(result.deployment_name, result.namespace, result.uri)\n"
        )
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGY_"))}
        environ = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "DAGY_LOCAL_DIR": str(tmp_path / "home"),
        }
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "etl.py"],
            cwd=tmp_path,
            env={**plain, **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "nightly a/b s3://artifacts/dagy/flows/etl/2/artifact.zip\n", done.stderr
        assert list((tmp_path / "home/builds/etl").glob("*/artifact.zip"))


class TestChecks:
    def test_the_artifact_must_exist(self, checked, tmp_path):
        with pytest.raises(ArtifactNotFound, match=r"^Artifact not found: "):
            checked(artifact_path=tmp_path / "artifact.zip")

    def test_the_artifact_must_be_intact(self, checked, tmp_path):
        (tmp_path / "artifact.zip").write_bytes(b"no zip")
        with pytest.raises(InvalidArtifact):
            checked(artifact_path=tmp_path / "artifact.zip")

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"flow_name": "other"}, "other:1.2.0"),
            ({"flow_version": "2"}, "daily:2"),
            ({"flow_name": "other", "flow_version": "2"}, "other:2"),
        ],
    )
    def test_the_artifact_must_hold_what_was_named(self, checked, settings, expected):
        with pytest.raises(InvalidArtifact) as caught:
            checked(**settings)
        message = f"ValueError: Artifact flow spec mismatch. Expected {expected}, got daily:1.2.0"
        assert shown(caught.value) == message

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"status": "active"}, "There is no status 'active'; use one of ACTIVE, INACTIVE"),
            ({"default_executor": "x"}, f"There is no default executor 'x'; use one of {', '.join(EXECUTORS)}"),
            ({"execution_mode": "x"}, f"There is no execution mode 'x'; use one of {', '.join(EXECUTION_MODES)}"),
            ({"timezone": "Mars"}, "There is no time zone 'Mars'; "),
            ({"deployment_name": " "}, "The name of a deployment must be one line of text, got ' '"),
            ({"dep_package_slugs": "A1B2C3D4"}, "Dependency packages must be a list of slugs, got 'A1B2C3D4'"),
            ({"tags": {"a": 1}}, "Tags must be strings by strings, got {'a': 1}"),
            ({"schedule": "* * *"}, "Schedule '* * *' is not a cron expression of five fields"),
        ],
    )
    def test_a_setting_must_be_legal(self, checked, settings, message):
        with pytest.raises(ParameterError) as caught:
            checked(**settings)
        assert str(caught.value).startswith(message)
        assert caught.value.exit_code is ExitCode.USAGE

    @pytest.mark.parametrize("executor", [None, *EXECUTORS])
    @pytest.mark.parametrize("mode", EXECUTION_MODES)
    def test_every_documented_executor_and_mode_is_legal(self, checked, executor, mode):
        with pytest.raises(NotAvailableYet):  # so the settings passed
            checked(default_executor=executor, execution_mode=mode, api_url="http://127.0.0.1:1")


class TestRegistration:
    def test_stops_before_the_upload_when_an_api_is_configured(self, checked, tmp_path):
        with pytest.raises(NotAvailableYet, match=r"at http://127.0.0.1:1/api needs a server"):
            checked(environ={"DAGY_LOCAL_DIR": str(tmp_path), "DAGY_API_URL": "http://127.0.0.1:1/api"})

    def test_stops_before_the_upload_when_a_profile_names_an_api(self, checked, tmp_path):
        (tmp_path / "config.yaml").write_text("profiles:\n  dev:\n    api_url: https://dev.invalid\n")
        with pytest.raises(NotAvailableYet, match=r"at https://dev.invalid needs a server"):
            checked(environ={"DAGY_LOCAL_DIR": str(tmp_path)})

    def test_does_not_hide_that_the_artifact_is_another(self, checked):
        with pytest.raises(InvalidArtifact):
            checked(flow_name="other", api_url="http://127.0.0.1:1")

    def test_can_be_switched_off(self, artifact, endpoint, tmp_path):
        result = deploy_artifact(
            artifact,
            deployment_name="d",
            api_url="",
            bucket="artifacts",
            s3_client=client(endpoint, "s3"),
            environ={"DAGY_LOCAL_DIR": str(tmp_path), "DAGY_API_URL": "http://127.0.0.1:1"},
        )
        assert not result.registered

    def test_by_an_upload_through_the_api_needs_one(self, artifact, tmp_path):
        arguments = {"deployment_name": "d", "environ": {"DAGY_LOCAL_DIR": str(tmp_path)}}
        with pytest.raises(ConfigError, match=r"^Missing Dagy API URL. Set DAGY_API_URL or run 'dagy config'.$"):
            upload_artifact_via_api(artifact, **arguments)
        with pytest.raises(NotAvailableYet):
            upload_artifact_via_api(artifact, api_url="http://127.0.0.1:1", dep_package_slugs=["A"], **arguments)
        with pytest.raises(InvalidArtifact):
            upload_artifact_via_api(artifact, api_url="http://127.0.0.1:1", flow_name="x", **arguments)


class TestKey:
    def test_has_the_documented_form(self):
        assert artifact_key("my flow", "1/2") == "dagy/flows/my%20flow/1%2F2/artifact.zip"

    def test_without_a_prefix_begins_with_flows(self):
        assert artifact_key("f", "1", prefix="") == "flows/f/1/artifact.zip"

    @given(st.text(min_size=1), st.text(min_size=1))
    def test_has_always_five_parts(self, name, version):
        assert len(artifact_key(name, version).split("/")) == 5


def shown_times(schedule: str, zone: str, now: datetime) -> list[str]:
    return [each.isoformat(timespec="minutes") for each in next_fire_times(schedule, zone, now=now)]


class TestSchedule:
    def test_fires_in_its_zone(self):
        assert shown_times("0 6 * * *", "America/New_York", NOON) == [
            "2026-03-05T06:00-05:00",
            "2026-03-06T06:00-05:00",
            "2026-03-07T06:00-05:00",
        ]

    def test_fires_in_an_hour_that_is_skipped_right_after_it(self):
        assert shown_times("30 2 * * *", "America/New_York", datetime(2026, 3, 7, 12, tzinfo=timezone.utc)) == [
            "2026-03-08T03:00-04:00",
            "2026-03-09T02:30-04:00",
            "2026-03-10T02:30-04:00",
        ]

    def test_deployed_says_when_it_fires(self, artifact, endpoint, tmp_path):
        result = deploy_artifact(
            artifact,
            deployment_name="d",
            schedule="0 6 * * MON",
            timezone="Europe/Berlin",
            bucket="artifacts",
            s3_client=client(endpoint, "s3"),
            environ={"DAGY_LOCAL_DIR": str(tmp_path)},
            now=NOON,
        )
        assert (result.schedule, result.timezone) == ("0 6 * * MON", "Europe/Berlin")
        assert [each.isoformat() for each in result.next_fire_times] == [
            "2026-03-09T06:00:00+01:00",
            "2026-03-16T06:00:00+01:00",
            "2026-03-23T06:00:00+01:00",
        ]

    @pytest.mark.parametrize("schedule", ["", "daily", "@daily", "* * * *", "0 0 6 * * *"])
    def test_without_five_fields_is_refused(self, schedule):
        with pytest.raises(ParameterError, match="is not a cron expression of five fields"):
            next_fire_times(schedule, "UTC", now=NOON)

    @pytest.mark.parametrize(
        ("schedule", "field"),
        [
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("0 0 31 2 *", "day-of-month"),
            ("* * * * x", "day-of-week"),
        ],
    )
    def test_with_a_bad_field_names_it(self, schedule, field):
        with pytest.raises(ParameterError, match=f"is not a valid cron expression: bad {field}"):
            next_fire_times(schedule, "UTC", now=NOON)


class TestTimeZone:
    def test_is_found_by_its_name(self):
        assert time_zone("Europe/Berlin").key == "Europe/Berlin"

    def test_that_is_misspelt_gets_a_suggestion(self):
        with pytest.raises(ParameterError, match="There is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'"):
            time_zone("Europe/Berln")

    @pytest.mark.parametrize("name", ["", "Europe", "../etc/passwd", "/etc/passwd", "a\0b", "Mars/Base"])
    def test_that_does_not_exist_is_refused(self, name):
        with pytest.raises(ParameterError, match="There is no time zone"):
            time_zone(name)
