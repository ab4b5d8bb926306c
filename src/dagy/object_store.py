"""Bytes by key: where artifacts, task outputs and reports lie, a folder or an S3 bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dagy.errors import ConfigError, DagyError, ExitCode

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

_CONNECT_TIMEOUT_SECONDS = 10
_MAX_ATTEMPTS = 3

_NOT_ALLOWED = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"})


class ObjectStore(Protocol):
    """Objects under keys such as `artifacts/<run_id>/<task_run_id>/output.json`.

    A put replaces the object as a whole: a reader sees the old bytes or the new ones. Keys are made of `path_name`
    segments joined by `/`.
    """

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the content of the file at `path` under `key`."""

    def get(self, key: str) -> bytes:
        """Return the object's bytes.

        Raises:
            FileNotFoundError: there is no object of that key.
        """

    def local_file(self, key: str) -> Path:
        """Return a file of this machine that holds the object, for reading only.

        Raises:
            FileNotFoundError: there is no object of that key.
        """


class LocalObjectStore:
    """Objects as files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> None:
        path = self._writable(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)

    def put_file(self, key: str, path: Path) -> None:
        import shutil  # noqa: PLC0415 - loads the archive formats, which a run without files does not need

        target = self._writable(key)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(path, temporary)
        temporary.replace(target)

    def get(self, key: str) -> bytes:
        return self.local_file(key).read_bytes()

    def local_file(self, key: str) -> Path:
        path = self.root / key
        if not path.is_file():
            raise FileNotFoundError(f"There is no object {key!r} below {self.root}")
        return path

    def _writable(self, key: str) -> Path:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class ObjectStoreError(DagyError):
    """A bucket can not be used; the exit code says whether credentials, the network or the bucket is to blame."""

    label = ""

    def __init__(self, message: str, *, exit_code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class S3ObjectStore:
    """Objects in a bucket of S3, or of a service that speaks its protocol (`AWS_ENDPOINT_URL`).

    Every method raises `ObjectStoreError` when the bucket can not be used: no credentials, no permission, no bucket of
    that name, no network.
    """

    def __init__(
        self, bucket: str, prefix: str = "", client: Any = None, *, region: str | None = None, owner: str | None = None
    ) -> None:
        """Remember where the objects are; nothing is asked yet.

        Args:
            bucket: the bucket's name.
            prefix: goes before every key, with a `/` between.
            client: an S3 client of boto3, instead of one made when it is first needed.
            region: of that client; AWS's own rules decide when absent.
            owner: the account that must own the bucket. S3 refuses to store in another one's, which may exist because
                anyone can take a name that is easily guessed.
        """
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self._client = client
        self._region = region
        self._extra = {"ExpectedBucketOwner": owner} if owner else {}
        self._folder: Path | None = None

    def put(self, key: str, data: bytes) -> None:
        with self._translated(key):
            self._s3().put_object(Bucket=self.bucket, Key=self._key(key), Body=data, **self._extra)

    def put_file(self, key: str, path: Path) -> None:
        # upload_fileobj, which splits large files as upload_file does, but lets the reason of a failure through.
        with path.open("rb") as file, self._translated(key):
            self._s3().upload_fileobj(file, self.bucket, self._key(key), ExtraArgs=self._extra)

    def get(self, key: str) -> bytes:
        with self._translated(key):
            answer = self._s3().get_object(Bucket=self.bucket, Key=self._key(key), **self._extra)
            with answer["Body"] as body:
                content: bytes = body.read()
        return content

    def local_file(self, key: str) -> Path:
        """Return a copy of the object, which stays until this process ends."""
        path = self._downloads() / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file, self._translated(key):
                self._s3().download_fileobj(self.bucket, self._key(key), file, ExtraArgs=self._extra)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def url(self, key: str) -> str:
        """Return `s3://<bucket>/<prefix>/<key>`."""
        return f"s3://{self.bucket}/{self._key(key)}"

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _s3(self) -> Any:
        if self._client is None:
            self._client = aws_client("s3", region=self._region)
        return self._client

    def _downloads(self) -> Path:
        if self._folder is None:
            import atexit  # noqa: PLC0415 - only a process that downloads leaves something to clean up
            import shutil  # noqa: PLC0415 - see `LocalObjectStore.put_file`
            import tempfile  # noqa: PLC0415 - loads random and hashlib

            self._folder = Path(tempfile.mkdtemp(prefix="dagy-objects-"))
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - 200 ms that only S3 has to cost

        try:
            yield
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise FileNotFoundError(f"There is no object {self.url(key)}") from exc
            raise _refused(exc, self.bucket) from exc
        except BotoCoreError as exc:
            raise _not_sent(exc, self.bucket) from exc


def open_object_store(url: str) -> ObjectStore:
    """Return the store of a URL: `s3://<bucket>/<prefix>`, `file:///<folder>`, or the path of a folder.

    Raises:
        ConfigError: the URL is of another kind, or names no bucket.
    """
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415 - the local runner makes its store without a URL

    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalObjectStore(Path(url))
    parts = urlsplit(url)
    if scheme == "s3" and parts.netloc:
        return S3ObjectStore(parts.netloc, rest.partition("/")[2])
    if scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return LocalObjectStore(Path(unquote(parts.path)))
    raise ConfigError(f"{url!r} names no object store; write s3://<bucket>/<prefix>, file:///<folder> or a path")


def aws_client(service: str, *, region: str | None = None) -> Any:
    """Return a client of boto3 that signs with SigV4, says who we are, and does not wait for minutes.

    Raises:
        ObjectStoreError: the configuration of AWS on this machine is broken.
    """
    import boto3  # noqa: PLC0415 - 200 ms that only AWS has to cost
    from botocore.config import Config  # noqa: PLC0415 - see above
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - see above

    import dagy  # noqa: PLC0415 - for its version; the package imports this module

    # Without s3v4 a client with an endpoint of its own falls back to SigV2, which most services refuse.
    config = Config(
        signature_version="s3v4" if service == "s3" else "v4",
        user_agent_extra=f"dagy-sdk/{dagy.__version__}",
        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
    )
    try:
        # A session of its own: the default one of boto3 is not safe to share between threads.
        return boto3.session.Session().client(service, region_name=region, config=config)
    except (BotoCoreError, ValueError) as exc:
        raise ObjectStoreError(
            f"AWS can not be used, {_one_line(exc)}; check the AWS_* variables and ~/.aws/config",
            exit_code=ExitCode.USAGE,
        ) from exc


def _refused(error: ClientError, bucket: str) -> ObjectStoreError:
    """What S3 answered, as one sentence."""
    details = error.response.get("Error", {})
    code, message = str(details.get("Code", "")), _one_line(str(details.get("Message", "")))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return ObjectStoreError(
            f"There is no bucket {bucket!r}; create it, or set DAGY_ARTIFACT_BUCKET to another one",
            exit_code=ExitCode.NOT_FOUND,
        )
    if code in _NOT_ALLOWED:
        return ObjectStoreError(
            f"AWS denies access to the bucket {bucket!r} ({code}); ask for permission to read and write its objects",
            exit_code=ExitCode.AUTH,
        )
    if status in (401, 403) or code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
        return ObjectStoreError(
            f"AWS does not accept the credentials for the bucket {bucket!r} ({code}: {message}); renew them",
            exit_code=ExitCode.AUTH,
        )
    return ObjectStoreError(f"The bucket {bucket!r} can not be used ({code}: {message})")


def _not_sent(error: BotoCoreError, bucket: str) -> ObjectStoreError:
    """Why a request never got an answer, as one sentence."""
    from botocore import exceptions  # noqa: PLC0415 - whoever raised the error has loaded it

    unknown_to_aws = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.ProfileNotFound,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
    )
    if isinstance(error, unknown_to_aws):
        return ObjectStoreError(
            f"There are no AWS credentials for the bucket {bucket!r} ({_one_line(error)}); sign in with "
            "'aws configure' or 'aws sso login', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            exit_code=ExitCode.AUTH,
        )
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        return ObjectStoreError(
            f"The bucket {bucket!r} can not be reached ({_one_line(error)}); check the network, the region and "
            "AWS_ENDPOINT_URL",
            exit_code=ExitCode.NETWORK,
        )
    return ObjectStoreError(f"The bucket {bucket!r} can not be used ({_one_line(error)})")


def _one_line(text: object) -> str:
    return " ".join(str(text).split()).rstrip(".")
