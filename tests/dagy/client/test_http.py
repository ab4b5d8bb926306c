from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import dagy
from dagy.client.credentials import Credentials, save_credentials
from dagy.client.http import DagyClient
from dagy.errors import APIError, ConfigError, ExitCode, shown

Answer = Callable[[httpx.Request], httpx.Response]
URL = "https://api.test/v1"


def client(answer: Answer, url: str = URL, **settings: Any) -> DagyClient:
    settings.setdefault("token", "dagy_at_x")
    return DagyClient(url, transport=httpx.MockTransport(answer), **settings)


class Recorder:
    """Answers every request alike and keeps what was asked."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers) or [httpx.Response(200, json={"name": "daily"})]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def error_from(answer: httpx.Response) -> APIError:
    with client(Recorder(answer)) as api, pytest.raises(APIError) as caught:
        list(api.list_flows())
    return caught.value


# Flows


def test_flows_are_read_page_by_page() -> None:
    recorder = Recorder(
        httpx.Response(200, json={"items": [{"id": 1}, {"id": 2}], "next_cursor": "a&b"}),
        httpx.Response(200, json={"items": [], "next_cursor": "c"}),
        httpx.Response(200, json={"items": [{"id": 3}], "next_cursor": None}),
    )

    with client(recorder) as api:
        flows = list(api.list_flows(limit=2))

    assert flows == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert [str(request.url) for request in recorder.requests] == [
        f"{URL}/flows?limit=2",
        f"{URL}/flows?limit=2&cursor=a%26b",
        f"{URL}/flows?limit=2&cursor=c",
    ]


def test_the_next_page_is_asked_for_only_when_it_is_needed() -> None:
    recorder = Recorder(httpx.Response(200, json={"items": [{"id": 1}], "next_cursor": "a"}))

    with client(recorder) as api:
        next(api.list_flows())

    assert [dict(request.url.params) for request in recorder.requests] == [{"limit": "100"}]


@pytest.mark.parametrize(
    "page",
    [
        {"items": [{"id": 1}], "next_cursor": "same"},
        {"items": [], "next_cursor": 7},
        {"items": [1]},
        {"flows": []},
        [],
        None,
    ],
)
def test_a_page_that_is_none_is_an_error(page: object) -> None:
    error = error_from(httpx.Response(200, json=page))

    assert error.status_code == 200
    assert "check that DAGY_API_URL or the profile names the API and not the web app" in error.message


def test_the_latest_flow_is_an_object() -> None:
    recorder = Recorder()

    with client(recorder) as api:
        assert api.latest_flow("etl/daily run") == {"name": "daily"}

    assert recorder.requests[0].url.raw_path == b"/v1/flows/etl%2Fdaily%20run/latest"


def test_an_unknown_flow_has_no_latest_version() -> None:
    with client(Recorder(httpx.Response(404, json={"detail": "There is no flow 'x'."}))) as api:
        assert api.latest_flow("x") is None


def test_other_errors_of_the_latest_flow_are_errors() -> None:
    with client(Recorder(httpx.Response(403))) as api, pytest.raises(APIError, match="APIError 403: Forbidden"):
        api.latest_flow("x")


# The request


def test_a_request_says_who_asks() -> None:
    recorder = Recorder()

    with client(recorder, url="https://api.test/", token="dagy_sk_1") as api:
        api.latest_flow("x")

    headers = recorder.requests[0].headers
    assert str(recorder.requests[0].url) == "https://api.test/flows/x/latest"
    assert headers["User-Agent"] == f"dagy-sdk/{dagy.__version__}"
    assert headers["Authorization"] == "Bearer dagy_sk_1"


def test_each_request_has_the_documented_time_limit() -> None:
    recorder = Recorder()

    with client(recorder) as api:
        api.latest_flow("x")

    assert set(recorder.requests[0].extensions["timeout"].values()) == {10.0}


@pytest.mark.parametrize(
    ("host", "url", "token", "sent"),
    [
        ("api.test", "https://api.test/v1", None, "Bearer saved"),
        (None, "https://other.test", None, "Bearer saved"),
        ("api.test", "https://other.test", None, None),
        ("api.test", "http://api.test", None, None),
        ("api.test", "https://other.test", "given", "Bearer given"),
    ],
)
def test_the_saved_token_goes_only_where_it_comes_from(
    tmp_path: Path, host: str | None, url: str, token: str | None, sent: str | None
) -> None:
    save_credentials(tmp_path, Credentials("saved", host))
    recorder = Recorder()

    with client(recorder, url=url, token=token, home=tmp_path) as api:
        api.latest_flow("x")

    assert recorder.requests[0].headers.get("Authorization") == sent


def test_without_a_login_no_token_is_sent(tmp_path: Path) -> None:
    recorder = Recorder()

    with client(recorder, token=None, home=tmp_path) as api:
        api.latest_flow("x")

    assert "Authorization" not in recorder.requests[0].headers


def test_a_broken_login_is_told_and_the_request_goes_on_without(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("{")
    warnings: list[str] = []
    recorder = Recorder()

    with client(recorder, token=None, home=tmp_path, warn=warnings.append) as api:
        api.latest_flow("x")

    assert "Authorization" not in recorder.requests[0].headers
    assert "log in again with 'dagy login'" in warnings[0]


def test_a_program_reads_of_a_broken_login_in_its_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "credentials").write_text("{")

    with caplog.at_level(logging.WARNING, logger="dagy.client.http"):
        client(Recorder(), token=None, home=tmp_path).close()

    assert "log in again with 'dagy login'" in caplog.text


def test_a_token_that_can_not_be_sent_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="The access token contains") as caught:
        client(Recorder(), token="secret\n")

    assert "secret" not in str(caught.value)


def test_a_redirect_is_not_followed() -> None:
    recorder = Recorder(httpx.Response(307, headers={"Location": "https://elsewhere.test/flows"}))

    with client(recorder) as api, pytest.raises(APIError) as caught:
        api.latest_flow("x")

    assert len(recorder.requests) == 1
    assert shown(caught.value) == (
        "APIError 307: The API redirects to https://elsewhere.test/flows, which is not followed; "
        "set DAGY_API_URL or the profile to the new address."
    )


# Errors of the API


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(400, json={"detail": "Say which.", "title": "Bad"}), "Say which."),
        (httpx.Response(400, json={"detail": [{"loc": []}], "title": "Bad"}), "Bad"),
        (httpx.Response(400, json={"detail": " ", "title": "Bad"}), "Bad"),
        (httpx.Response(502, text="<html>\n  Bad\tgateway</html>"), "<html> Bad gateway</html>"),
        (httpx.Response(502, text="x" * 300), "x" * 200),
        (httpx.Response(400, json=["no", "object"]), '["no","object"]'),
        (httpx.Response(503), "Service Unavailable"),
        (httpx.Response(599), "The API gave no reason."),
    ],
)
def test_the_message_of_an_error(answer: httpx.Response, message: str) -> None:
    error = error_from(answer)

    assert error.status_code == answer.status_code
    assert error.message == message


@pytest.mark.parametrize(
    ("answer", "request_id"),
    [
        (httpx.Response(500, json={"request_id": "body"}, headers={"X-Request-Id": "header"}), "body"),
        (httpx.Response(500, text="oops", headers={"X-Request-Id": "header"}), "header"),
        (httpx.Response(500), None),
    ],
)
def test_the_request_id_of_an_error(answer: httpx.Response, request_id: str | None) -> None:
    assert error_from(answer).request_id == request_id


@pytest.mark.parametrize(
    ("status", "code"), [(401, ExitCode.AUTH), (403, ExitCode.AUTH), (404, ExitCode.NOT_FOUND), (500, ExitCode.FAILURE)]
)
def test_the_exit_code_of_an_error(status: int, code: ExitCode) -> None:
    assert error_from(httpx.Response(status)).exit_code is code


@pytest.mark.parametrize("content", [b"<html></html>", b"", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_not_json_is_an_error_that_says_so(content: bytes) -> None:
    error = error_from(httpx.Response(200, content=content))

    assert error.status_code == 200
    assert error.message.startswith(f"The answer of {URL} is not JSON; check that DAGY_API_URL")


# Errors of the network


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.ProxyError("proxy"),
    ],
)
def test_an_api_that_can_not_be_reached(error: httpx.RequestError) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    with client(answer) as api, pytest.raises(APIError) as caught:
        api.latest_flow("x")

    assert shown(caught.value) == (
        f"APIError 0: Unable to reach Dagy API at {URL}. Check DAGY_API_URL/profile and network connectivity."
    )
    assert caught.value.__cause__ is error
    assert caught.value.exit_code is ExitCode.NETWORK


@pytest.mark.parametrize("url", ["", "api.test", "ftp://api.test", "https://", "http://[::1", "http://x.test:99999"])
def test_an_invalid_url_can_not_be_reached(url: str) -> None:
    recorder = Recorder()

    with client(recorder, url=url) as api, pytest.raises(APIError) as caught:
        api.latest_flow("x")

    assert caught.value.status_code == 0
    assert caught.value.message.startswith(f"Unable to reach Dagy API at {url}")
    assert recorder.requests == []


@pytest.mark.parametrize("url", ["http://a..test", "http://" + "a" * 300 + ".test"])
def test_a_host_that_no_name_server_can_know_can_not_be_reached(url: str) -> None:
    with DagyClient(url, "dagy_at_x") as api, pytest.raises(APIError, match=r"^APIError 0: Unable to reach"):
        api.latest_flow("x")


def test_a_password_in_the_url_is_not_shown() -> None:
    with client(Recorder(), url="https://me:secret@api.test/v1") as api, pytest.raises(APIError) as caught:
        api.latest_flow("x")

    assert "at https://api.test/v1. " in str(caught.value)


def test_a_port_where_nobody_listens_can_not_be_reached() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        with DagyClient(url, "dagy_at_x") as api, pytest.raises(APIError, match=rf"^APIError 0: .* at {url}\. "):
            api.latest_flow("x")


def test_an_answer_that_does_not_come_in_time_counts_as_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        with DagyClient(url, "dagy_at_x", timeout_seconds=0.05) as api, pytest.raises(APIError) as caught:
            api.latest_flow("x")

    assert caught.value.status_code == 0


def test_a_broken_compression_is_an_error() -> None:
    answer = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    assert "can not be decompressed" in error_from(answer).message


# Resources


def test_closing_twice_or_unused_is_fine() -> None:
    unused = client(Recorder())
    unused.close()
    used = client(Recorder())
    used.latest_flow("x")
    used.close()
    used.close()


def test_making_a_client_does_not_load_httpx() -> None:
    code = "import sys, dagy; dagy.DagyClient('https://api.test', 'x'); print('httpx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"False\n"
