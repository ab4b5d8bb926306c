"""`dagy.object_store`: one contract, kept by a folder and by S3."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from moto.server import ThreadedMotoServer

from dagy.errors import ConfigError, ExitCode
from dagy.object_store import LocalObjectStore, ObjectStore, ObjectStoreError, S3ObjectStore, open_object_store

#: Above the 8 MB from which boto3 sends a file in parts.
LARGE_BYTES = 9 * 1024 * 1024

_numbers = itertools.count()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an S3 server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_client(endpoint: str, **config: object):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}, **config),
    )


@pytest.fixture
def bucket(endpoint: str) -> str:
    """A new bucket."""
    name = f"bucket-{next(_numbers)}"
    s3_client(endpoint).create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["folder", "s3", "s3 with prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return LocalObjectStore(tmp_path / "store")
    client = s3_client(request.getfixturevalue("endpoint"))
    prefix = "some/prefix" if "prefix" in request.param else ""
    return S3ObjectStore(request.getfixturevalue("bucket"), prefix, client)


class TestContract:
    @pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 100])
    def test_what_was_put_is_got(self, store, content):
        store.put("a/b/output.json", content)
        assert store.get("a/b/output.json") == content
        assert store.local_file("a/b/output.json").read_bytes() == content

    def test_a_put_replaces_the_whole_object(self, store):
        store.put("key", b"a long first version")
        store.put("key", b"short")
        assert store.get("key") == b"short"
        assert store.local_file("key").read_bytes() == b"short"

    def test_a_file_is_put_as_it_is(self, store, tmp_path):
        path = tmp_path / "large.bin"
        path.write_bytes(os.urandom(1024) * (LARGE_BYTES // 1024))
        store.put_file("artifacts/large.bin", path)
        assert store.local_file("artifacts/large.bin").read_bytes() == path.read_bytes()
        assert path.exists()

    def test_keys_that_were_percent_encoded_stay_apart(self, store):
        store.put("a%20b", b"encoded")
        store.put("a%2520b", b"twice")
        assert (store.get("a%20b"), store.get("a%2520b")) == (b"encoded", b"twice")

    @pytest.mark.parametrize("read", ["get", "local_file"])
    def test_a_missing_object_is_a_missing_file(self, store, read):
        store.put("there/output.json", b"")
        with pytest.raises(FileNotFoundError, match="There is no object"):
            getattr(store, read)("there/other.json")

    def test_a_file_that_is_missing_here_can_not_be_put(self, store, tmp_path):
        with pytest.raises(FileNotFoundError):
            store.put_file("key", tmp_path / "missing")


class TestS3:
    def test_keys_go_below_the_prefix(self, endpoint, bucket):
        store = S3ObjectStore(bucket, "/team/dagy/", s3_client(endpoint))
        store.put("flows/x", b"1")
        listed = s3_client(endpoint).list_objects_v2(Bucket=bucket)["Contents"]
        assert [each["Key"] for each in listed] == ["team/dagy/flows/x"]
        assert store.url("flows/x") == f"s3://{bucket}/team/dagy/flows/x"

    def test_a_large_file_is_sent_in_parts(self, endpoint, bucket, tmp_path):
        (tmp_path / "large").write_bytes(b"x" * LARGE_BYTES)
        client = s3_client(endpoint)
        S3ObjectStore(bucket, client=client).put_file("large", tmp_path / "large")
        assert client.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-2"')

    def test_a_bucket_that_is_missing_is_named(self, endpoint, tmp_path):
        (tmp_path / "file").touch()
        store = S3ObjectStore("nowhere", client=s3_client(endpoint))
        for act in (
            lambda: store.put("k", b""),
            lambda: store.put_file("k", tmp_path / "file"),
            lambda: store.get("k"),
        ):
            with pytest.raises(ObjectStoreError, match="There is no bucket 'nowhere'") as caught:
                act()
            assert caught.value.exit_code is ExitCode.NOT_FOUND

    def test_an_endpoint_that_is_away_is_a_network_error(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            store = S3ObjectStore("b", client=s3_client(f"http://127.0.0.1:{unused.getsockname()[1]}"))
            with pytest.raises(ObjectStoreError, match="The bucket 'b' can not be reached") as caught:
                store.get("k")
        assert caught.value.exit_code is ExitCode.NETWORK

    @pytest.mark.parametrize(
        ("code", "status", "exit_code", "text"),
        [
            ("AccessDenied", 403, ExitCode.AUTH, "AWS denies access to the bucket 'b'"),
            ("InvalidAccessKeyId", 403, ExitCode.AUTH, "AWS does not accept the credentials for the bucket 'b'"),
            ("ExpiredToken", 400, ExitCode.AUTH, "AWS does not accept the credentials for the bucket 'b'"),
            ("SlowDown", 503, ExitCode.FAILURE, "The bucket 'b' can not be used (SlowDown: two lines)"),
        ],
    )
    def test_a_refusal_is_one_sentence(self, endpoint, code, status, exit_code, text):
        client = s3_client(endpoint)
        with Stubber(client) as stub:
            stub.add_client_error("put_object", code, "two\nlines.", http_status_code=status)
            with pytest.raises(ObjectStoreError) as caught:
                S3ObjectStore("b", client=client).put("k", b"")
        assert str(caught.value).startswith(text)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code is exit_code

    def test_an_illegal_name_of_a_bucket_is_one_sentence(self, endpoint):
        with pytest.raises(ObjectStoreError, match="Invalid bucket name") as caught:
            S3ObjectStore("not a bucket", client=s3_client(endpoint)).put("k", b"")
        assert "\n" not in str(caught.value)

    def test_the_owner_is_demanded_in_every_request(self, endpoint, tmp_path):
        client = s3_client(endpoint)
        (tmp_path / "file").touch()
        sent = []
        client.meta.events.register("before-send.s3", lambda request, **_: sent.append(dict(request.headers)))
        store = S3ObjectStore("nowhere", client=client, owner="123456789012")
        for act in (
            lambda: store.put("k", b""),
            lambda: store.put_file("k", tmp_path / "file"),
            lambda: store.get("k"),
        ):
            with pytest.raises(ObjectStoreError):
                act()
        assert [each["x-amz-expected-bucket-owner"] for each in sent] == [b"123456789012"] * 3

    def test_its_own_client_signs_and_says_who_it_is(self, tmp_path, endpoint, bucket):
        code = (
            "import sys\nfrom dagy.object_store import open_object_store\n"
            "store = open_object_store(sys.argv[1])\nclient = store._s3()\n"
            "client.meta.events.register('before-send.s3', lambda request, **_: print(request.headers))\n"
            "store.put('k', b'1')\nprint(store.local_file('k').read_bytes(), store.local_file('k'))"
        )
        environ = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        printed = run(code, f"s3://{bucket}/p", environ)
        assert "AWS4-HMAC-SHA256" in printed
        assert "dagy-sdk/" in printed
        content, path = printed.splitlines()[-1].split()
        assert content == "b'1'"
        assert not Path(path).exists()  # downloads do not outlive the process

    def test_without_credentials_is_an_authentication_error(self, endpoint):
        code = (
            "import sys\nfrom dagy.object_store import open_object_store\n"
            "try:\n    open_object_store(sys.argv[1]).get('k')\n"
            "except Exception as exc:\n    print(type(exc).__name__, int(exc.exit_code), exc)"
        )
        environ = {"AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
        assert run(code, "s3://b", environ).startswith("ObjectStoreError 3 There are no AWS credentials for the bucket")

    def test_with_a_broken_configuration_is_one_sentence(self):
        code = (
            "import sys\nfrom dagy.object_store import open_object_store\n"
            "try:\n    open_object_store(sys.argv[1]).get('k')\n"
            "except Exception as exc:\n    print(type(exc).__name__, int(exc.exit_code), exc)"
        )
        printed = run(code, "s3://b", {"AWS_PROFILE": "nobody"})
        assert printed.startswith(
            "ObjectStoreError 2 AWS can not be used, The config profile (nobody) could not be found;"
        )


def run(code: str, url: str, environ: dict[str, str]) -> str:
    """Run code in a fresh Python that knows no AWS but what `environ` says, and return what it printed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", code, url],
        env={**plain, **nowhere, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "bucket", "prefix"), [("s3://b", "b", ""), ("s3://b/", "b", ""), ("s3://b/a%20c/d/", "b", "a%20c/d")]
    )
    def test_of_s3_is_a_bucket_and_a_prefix(self, url, bucket, prefix):
        store = open_object_store(url)
        assert isinstance(store, S3ObjectStore)
        assert (store.bucket, store.prefix) == (bucket, prefix)

    @pytest.mark.parametrize("url", ["file:///tmp/a%20b", "file://localhost/tmp/a%20b", "/tmp/a b"])
    def test_of_a_folder_is_that_folder(self, url):
        store = open_object_store(url)
        assert isinstance(store, LocalObjectStore)
        assert store.root == Path("/tmp/a b")

    @pytest.mark.parametrize("url", ["s3://", "s3:///k", "http://example.invalid/x", "file://host/x", "file://"])
    def test_of_something_else_is_refused(self, url):
        with pytest.raises(ConfigError, match="names no object store; write s3://"):
            open_object_store(url)
