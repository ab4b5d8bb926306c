"""`DagyClient`: the Dagy API as Python calls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dagy import __version__
from dagy.client.credentials import is_sendable, load_credentials, token_for
from dagy.client.profiles import url_problem
from dagy.errors import APIError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    import httpx

logger = logging.getLogger(__name__)

#: The longest piece of an answer that is not a problem document, in characters, that becomes an error message.
LONGEST_TEXT = 200


class DagyClient:
    """Calls one Dagy API. Use it in a `with` statement, or call `close()`."""

    def __init__(
        self,
        api_url: str,
        token: str | None = None,
        *,
        home: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_seconds: float = 10.0,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            api_url: base URL of the API, with its path prefix if it has one.
            token: an access token, API key or run token for this API; None for that of the saved login, which is used
                only if this API's host issued it.
            home: the directory of the saved login; None for `~/.dagy`.
            transport: what carries the requests instead of the network, for tests.
            timeout_seconds: how long to wait for the connection, and for each piece of an answer.
            warn: gets one sentence when the saved login can not be used; None logs it as a warning.

        Raises:
            ConfigError: the token can not stand in a request, or the saved login can not be read.
        """
        self._base_url = api_url.rstrip("/")
        self._shown_url = _without_user(api_url)
        self._token = token or self._saved_token(home, warn or _log_warning)
        if self._token is not None and not is_sendable(self._token):
            raise ConfigError("The access token contains a blank or a character that is not ASCII; copy it again")
        self._transport = transport
        self._timeout_seconds = timeout_seconds
        self._http: httpx.Client | None = None

    def list_flows(self, *, limit: int = 100) -> Iterator[dict[str, Any]]:
        """Yield every flow that the token may see, newest first, asking for one page at a time.

        Args:
            limit: flows per page, 1 to 500.

        Raises:
            APIError: the API answered with an error, could not be reached, or is not a Dagy API.
        """
        return self._items("/flows", {"limit": limit})

    def latest_flow(self, name: str) -> dict[str, Any] | None:
        """Return the flow's newest version, or None when there is no flow of that name.

        Raises:
            APIError: the API answered with another error, could not be reached, or is not a Dagy API.
        """
        try:
            return self._object("GET", f"/flows/{quote(name, safe='')}/latest")
        except APIError as exc:
            if exc.status_code == 404:
                return None
            raise

    def close(self) -> None:
        """Give back the connections; doing it twice is fine."""
        if self._http is not None:
            self._http.close()

    def __enter__(self) -> DagyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _items(self, path: str, params: Mapping[str, str | int]) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list."""
        seen: set[str] = set()
        cursor = None
        while True:
            page = self._object("GET", path, params={**params, "cursor": cursor} if cursor else params)
            items, cursor = page.get("items"), page.get("next_cursor")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise self._not_dagy("has no list of items")
            yield from items
            if not cursor:
                return
            if not isinstance(cursor, str) or cursor in seen:
                raise self._not_dagy("leads in circles from page to page")
            seen.add(cursor)

    def _object(self, method: str, path: str, *, params: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        answer = self._request(method, path, params=params)
        if not isinstance(answer, dict):
            raise self._not_dagy("is not a JSON object")
        return answer

    def _request(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, json: object = None
    ) -> Any:
        """Send one request and return the JSON of its answer, None for an answer without a body.

        Raises:
            APIError: the API answered with an error or with something that is not JSON, or could not be reached.
        """
        response = self._send(method, path, params=params, json=json)
        if not response.is_success:
            raise _error_of(response)
        if response.status_code == 204:
            return None
        try:
            return response.json()
        except (ValueError, RecursionError) as exc:
            raise self._not_dagy("is not JSON", status_code=response.status_code) from exc

    def _send(self, method: str, path: str, *, params: Mapping[str, str | int] | None, json: object) -> httpx.Response:
        import httpx  # noqa: PLC0415 - 100 ms that only commands which talk to an API have to pay

        if url_problem(self._base_url):
            raise self._unreachable()
        try:
            return self._client().request(method, self._base_url + path, params=params, json=json)
        except httpx.DecodingError as exc:
            raise self._not_dagy("can not be decompressed", status_code=0) from exc
        except (httpx.RequestError, httpx.InvalidURL, OSError, ValueError) as exc:
            # The last two come from certificates and proxies that the environment names and that can not be used.
            raise self._unreachable() from exc

    def _client(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 - see _send

        if self._http is None:
            headers = {"User-Agent": f"dagy-sdk/{__version__}", "Accept": "application/json"}
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
            # A redirect is never followed: it could carry the token to a host that did not issue it.
            self._http = httpx.Client(
                headers=headers, timeout=self._timeout_seconds, transport=self._transport, follow_redirects=False
            )
        return self._http

    def _saved_token(self, home: Path | None, warn: Callable[[str], None]) -> str | None:
        from pathlib import Path  # noqa: PLC0415 - not needed with a token

        home = Path.home() / ".dagy" if home is None else home
        return token_for(load_credentials(home, warn=warn), self._base_url)

    def _unreachable(self) -> APIError:
        url = self._shown_url
        return APIError(0, f"Unable to reach Dagy API at {url}. Check DAGY_API_URL/profile and network connectivity.")

    def _not_dagy(self, what: str, *, status_code: int = 200) -> APIError:
        return APIError(
            status_code,
            f"The answer of {self._shown_url} {what}; check that DAGY_API_URL or the profile names the "
            "API and not the web app.",
        )


def _log_warning(sentence: str) -> None:
    logger.warning("%s", sentence, extra={"event_type": "credentials_set_aside"})


def _without_user(url: str) -> str:
    """Return the URL without user name and password, for messages."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def _error_of(response: httpx.Response) -> APIError:
    problem = _problem_of(response)
    request_id = _said(problem.get("request_id")) or response.headers.get("X-Request-Id")
    return APIError(response.status_code, _message_of(response, problem), request_id=request_id)


def _problem_of(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _message_of(response: httpx.Response, problem: Mapping[str, Any]) -> str:
    if response.has_redirect_location:
        target = response.headers["Location"][:LONGEST_TEXT]
        return (
            f"The API redirects to {target}, which is not followed; set DAGY_API_URL or the profile to the new address."
        )
    return (
        _said(problem.get("detail"))
        or _said(problem.get("title"))
        or " ".join(response.text.split())[:LONGEST_TEXT]
        or response.reason_phrase
        or "The API gave no reason."
    )


def _said(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
