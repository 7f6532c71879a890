"""The wire of Userpilot's Import API: everything known about it is here.

Sources: the pages Import API [OV], Event Schema [ES], Authentication and Environment [AU], and the OpenAPI file [OA] of
docs.userpilot.com. Where they disagree, or say nothing, the reading taken here is named.

    POST /v1/imports               multipart/form-data, one part `file`, CSV or NDJSON; answers 200 with a job [OV, OA];
                                   any 2xx is taken. One job per account at a time, else 409 [OV].
    GET  /v1/background_jobs       an array of jobs, imports and others; "paginated" in words, without a parameter or a
                                   cursor in the schema [OA]: read as one array.
    GET  /v1/background_jobs/<id>  one job. OV's text says /api/…, every `links` and OA say /v1/…: `links` is followed
                                   first, on our own origin only, then both are tried. Ids hold `:`, left raw [OV].

`Authorization: Token <API key>` on each [OV, AU]. Numbers come as integers or strings, `end_time` as null [OV, OA]. The
statuses are [OA]'s; an unknown one is not an end, and with an `end_time` one that nobody can judge. Errors:
`{"errors": [{"message": …}]}` [OA]; only 401 and 409 are listed, nothing about sizes, rates or `Retry-After`, so the
general meaning of HTTP holds for the rest:

    answer                                  upload            list, job
    none, and nothing of the file was sent  NotSent           NotSent (no connection)
    cut, late, too long, unreadable, 408    Unclear           Unclear
    2xx without an `imports:jobs:` id       Unclear
    3xx (never followed: the key stays)     Unclear           Refused
    401, 403                                AuthError         AuthError
    404                                     Refused           job: None after all paths
    409 · 429 · 1xx, 5xx                    Busy · Throttled · Unclear
    other 4xx                               Refused           Refused

Bodies are never logged and never quoted in messages beyond the server's own words, without what looks like a row.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urljoin, urlsplit

from warehouse_sync.errors import (
    AuthError,
    Busy,
    NotSent,
    Refused,
    Throttled,
    Unclear,
    UsageError,
    WarehouseSyncError,
)
from warehouse_sync.userpilot.job import ACCOUNT, RemoteJob
from warehouse_sync.userpilot.route import route_of
from warehouse_sync.userpilot.trouble import phrase, retry_after, server_message, trouble, web_page
from warehouse_sync.userpilot.upload import UploadBody

if TYPE_CHECKING:
    import requests

IMPORTS_PATH = "/v1/imports"
JOBS_PATH = "/v1/background_jobs"
JOB_PATHS = ("/v1/background_jobs/", "/api/background_jobs/")

MAX_ANSWER = 64_000_000  # bytes; a list of 100,000 jobs is about 40 MB
MAX_ERROR_ANSWER = 64_000
READ_CHUNK = 65_536
_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,100}", re.ASCII)

AUTH_HINT = (
    "Check three things: the key (the API key of the account's Environment page, not the App Token `NX-…`), the plan"
    " (imports need Enterprise, or the add-on to Growth), and the region (userpilot.endpoint, on the same page)."
)
HINTS: dict[int, str] = {
    HTTPStatus.NOT_FOUND: "Check userpilot.endpoint.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Lower job.max_bytes and batch.max_bytes in the YAML file.",
}

log = logging.getLogger("warehouse_sync.userpilot")


@dataclass(frozen=True)
class RemoteCheck:
    """What one look at the job list tells: is the key accepted, whose it is (`NX-…`), and what is running.

    `account` is None while the account has no job; `running` is the newest import that has not ended; `problem` is
    empty when the key is accepted. A key of the wrong region is accepted too, as far as the pages tell.
    """

    accepted: bool
    account: str | None = None
    jobs: int = 0
    running: RemoteJob | None = None
    problem: str = ""


@dataclass(frozen=True)
class _Answer:
    """An answer, read to its end, or `broken`: why not."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: str = ""

    @property
    def request_id(self) -> str:
        told = self.headers.get("x-request-id", "")
        return told if _REQUEST_ID.fullmatch(told) else ""


class Client:
    """One account's Import API; a context manager that closes its connections.

    `connect_timeout` and `read_timeout` are seconds: to a connection, and to an answer; the head and the body of an
    answer may each take `read_timeout` as a whole. Raises UsageError for an endpoint that would show the key to others
    and for a proxy or CA bundle of the environment that cannot be used, AuthError for a key that no header can carry.
    """

    def __init__(
        self,
        endpoint: str,
        api_key: str,
        *,
        connect_timeout: float = 10,
        read_timeout: float = 60,
        user_agent: str,
    ) -> None:
        self._base = _base(endpoint)
        self._key = api_key
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._session = _session(api_key, user_agent)
        # A sandbox on this machine is never asked through a proxy.
        self._route = route_of(self._session, self._base, direct=_is_loopback(urlsplit(self._base).hostname or ""))
        self._job_path = JOB_PATHS[0]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # -- what the API does -----------------------------------------------------------------------------------------

    def upload(self, file_name: str, parts: Sequence[Path], size: int) -> RemoteJob:
        """Post one import job: the bytes of `parts`, one after the other, under `file_name`.

        `size` is what the parts hold together, in bytes; DiskError when they do not. The parts are read while they are
        sent. NotSent is raised only when no byte of the file has left this machine.
        """
        body = UploadBody(file_name, parts, size)
        answer = self._ask("POST", IMPORTS_PATH, "upload", body)
        job = RemoteJob.read(self._object(answer, "upload"), answer.request_id)
        if not job.is_import:
            raise _unclear("upload: the answer holds no id of an import job", answer)
        return job

    def list_jobs(self) -> tuple[RemoteJob, ...]:
        """Every import job that the API still lists, in its order; other kinds of job are left out."""
        return tuple(job for job in self._all_jobs() if job.is_import)

    def job(self, remote_id: str, links: str = "") -> RemoteJob | None:
        """One job as it stands now; None when one path answers 404 and the others do not know it or refuse.

        `links` is followed when it stays on our own origin, and ignored otherwise. A path that answers something else
        (a page for people, a redirect) says nothing about the next one; the first trouble is raised when none helps.
        """
        troubles: list[WarehouseSyncError] = []
        is_missing = False
        for path in self._job_candidates(remote_id, links):
            try:
                job = self._job_at(path, remote_id)
            except (AuthError, Refused, Unclear) as error:
                troubles.append(error)
                if isinstance(error, Unclear) and not error.status:
                    break
                continue
            if job is not None:
                return job
            is_missing = True
        unclear = [error for error in troubles if isinstance(error, Unclear)]
        if unclear or (troubles and not is_missing):
            raise [*unclear, *troubles][0]
        return None

    def _job_at(self, path: str, remote_id: str) -> RemoteJob | None:
        answer = self._ask("GET", path, "job", missing=True)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        job = RemoteJob.read(self._object(answer, "job"), answer.request_id, expected=remote_id)
        if job.job_id != remote_id:
            raise _unclear("job: the answer is about another job", answer)
        self._job_path = next((known for known in JOB_PATHS if path.startswith(known)), self._job_path)
        return job

    def check(self) -> RemoteCheck:
        """List the jobs once and say what that tells; a refused key is a result, every other trouble is raised."""
        try:
            jobs = self._all_jobs()
        except AuthError as error:
            return RemoteCheck(accepted=False, problem=str(error))
        imports = [job for job in jobs if job.is_import]
        running = next((job for job in imports if not job.is_over), None)
        account = next((match.group(1) for job in jobs if (match := ACCOUNT.match(job.job_id))), None)
        return RemoteCheck(accepted=True, account=account, jobs=len(imports), running=running)

    # -- one request -----------------------------------------------------------------------------------------------

    def _all_jobs(self) -> tuple[RemoteJob, ...]:
        answer = self._ask("GET", JOBS_PATH, "job list")
        listed = self._json(answer, "job list")
        if isinstance(listed, dict):
            listed = next((listed[key] for key in ("data", "jobs") if key in listed), None)
        if not isinstance(listed, list):
            raise _unclear("job list: the answer is not a list", answer)
        return tuple(RemoteJob.read(entry, answer.request_id) for entry in listed if isinstance(entry, dict))

    def _job_candidates(self, remote_id: str, links: str) -> tuple[str, ...]:
        name = quote(remote_id, safe=":")
        others = [path for path in JOB_PATHS if path != self._job_path]
        paths = [_same_origin_path(self._base, links), *(path + name for path in (self._job_path, *others))]
        return tuple(dict.fromkeys(path for path in paths if path))

    def _ask(
        self, method: str, path: str, what: str, body: UploadBody | None = None, *, missing: bool = False
    ) -> _Answer:
        """One request and its 2xx answer (or 404 where `missing` is allowed); every other end is an error."""
        began = time.monotonic()
        answer = self._send(method, self._base + path, what, body)
        sizes = f"sent {len(body) if body else 0} bytes, received {len(answer.body)} bytes"
        took = time.monotonic() - began
        log.debug(
            "%s: status %d, %s, request id %s, %.3f s", what, answer.status, sizes, answer.request_id or "-", took
        )
        if not (200 <= answer.status < 300 or (missing and answer.status == HTTPStatus.NOT_FOUND)):
            raise self._error(answer, what, posted=body is not None)
        return answer

    def _send(self, method: str, url: str, what: str, body: UploadBody | None) -> _Answer:
        import requests
        import urllib3

        headers = {"Content-Type": body.content_type} if body else {}
        # Sending shares the socket's first timeout with connecting; a server may pause longer while it takes a file.
        connect = max(self._connect_timeout, self._read_timeout) if body else self._connect_timeout
        if body:
            # A connection of its own: one that the server is about to close for idleness would leave the end unclear.
            self._session.close()
        request = self._session.prepare_request(requests.Request(method, url, headers=headers, data=body))
        adapter = self._session.get_adapter(url)
        try:
            # The adapter, not the session: Session.send prepares a redirect even when told not to follow one.
            response = adapter.send(
                request,
                stream=True,
                timeout=(connect, self._read_timeout),
                verify=self._route.verify,
                proxies=self._route.proxies,
            )
        except (OSError, urllib3.exceptions.HTTPError) as error:
            self._no_answer(error, what, body)
        try:
            content, broken = self._read(response)
        finally:
            response.close()
        if response.status_code < 200:
            # An answer before the answer, which would be taken for that to the next question.
            self._session.close()
        return _Answer(response.status_code, response.headers, content, broken)

    def _read(self, response: requests.Response) -> tuple[bytes, str]:
        """The answer's body and, when it is not whole, why. Of an error's body only the beginning is read."""
        import urllib3

        limit = MAX_ANSWER if 200 <= response.status_code < 300 else MAX_ERROR_ANSWER
        deadline = time.monotonic() + self._read_timeout
        content = bytearray()
        try:
            # read1 returns after each packet, so that a server that drips bytes meets the deadline.
            while chunk := response.raw.read1(READ_CHUNK, decode_content=True):
                content += chunk
                if len(content) > limit:
                    return bytes(content[:limit]), f"the answer is longer than {limit:,} bytes"
                if time.monotonic() > deadline:
                    return bytes(content), f"the answer was not complete within {self._read_timeout:g} s"
        except (OSError, urllib3.exceptions.HTTPError) as error:
            return bytes(content), trouble(error, self._connect_timeout, self._read_timeout)[1]
        return bytes(content), ""

    # -- what an answer means --------------------------------------------------------------------------------------

    def _json(self, answer: _Answer, what: str) -> Any:
        if answer.broken:
            raise _unclear(f"{what}: {answer.broken}", answer)
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            if page := web_page(answer.status, answer.headers.get("content-type", ""), answer.body):
                hint = f"Check userpilot.endpoint ({self._base})."
                raise _unclear(f"{what}: the answer is {page}", answer, hint) from None
            shape = "empty" if not answer.body.strip() else "not JSON"
            raise _unclear(f"{what}: the answer is {shape}", answer) from None

    def _object(self, answer: _Answer, what: str) -> dict[str, Any]:
        payload = self._json(answer, what)
        if isinstance(payload, dict) and isinstance(payload.get("data"), dict):
            payload = payload["data"]
        if not isinstance(payload, dict):
            raise _unclear(f"{what}: the answer is not a JSON object", answer)
        return payload

    def _no_answer(self, error: Exception, what: str, body: UploadBody | None) -> NoReturn:
        connected, words = trouble(error, self._connect_timeout, self._read_timeout)
        sent = connected if body is None else body.started
        if body is not None and body.problem:
            words = body.problem
        log.debug("%s: no answer: %s", what, words)
        proxy = self._route.proxy
        message = f"{what}: {words} ({urlsplit(self._base).netloc}{f' through the proxy {proxy}' if proxy else ''})"
        if sent:
            raise Unclear(message) from None
        check = f"the proxy {proxy}, or name the host in NO_PROXY" if proxy else f"userpilot.endpoint ({self._base})"
        hint = "" if connected else f"Check {check}, and that this machine can reach it."
        raise NotSent(message, hint=hint) from None

    def _error(self, answer: _Answer, what: str, *, posted: bool) -> WarehouseSyncError:
        status, request_id = answer.status, answer.request_id
        said = server_message(answer.body, self._key)
        message = f"{what}: {status} {phrase(status)}{': ' + said if said else ''}"
        message += f" (request id {request_id})" if request_id else ""
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return AuthError(f"Userpilot refuses the API key. {message}", hint=AUTH_HINT)
        if status == HTTPStatus.CONFLICT:
            return Busy(message, status=status, request_id=request_id)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = retry_after(answer.headers.get("retry-after", ""))
            return Throttled(message, retry_after=wait, request_id=request_id)
        if 300 <= status < 400:
            redirect = f"{message}: a redirect, not followed, so that the API key goes nowhere else"
            kind = Unclear if posted else Refused
            return kind(redirect, status=status, request_id=request_id, hint="Check userpilot.endpoint.")
        if not 200 <= status < 500 or status == HTTPStatus.REQUEST_TIMEOUT:
            return Unclear(message, status=status, request_id=request_id)
        return Refused(message, status=status, request_id=request_id, hint=HINTS.get(status, ""))


# -- the endpoint and the session ----------------------------------------------------------------------------------


def _base(endpoint: str) -> str:
    """The endpoint without a trailing slash or `/v1`; https, or http on loopback."""
    with suppress(ValueError):
        parts = urlsplit(endpoint.strip())
        safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
        plain = not (parts.query or parts.fragment) and re.fullmatch(r"[\w.:\[\]-]+", parts.netloc, re.ASCII)
        if safe and plain and parts.hostname and parts.port != 0:
            path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
            return f"{parts.scheme}://{parts.netloc}{path}"
    raise UsageError(
        "userpilot.endpoint must be https://<host> (http only on loopback), without a user name, query or fragment",
        hint="The usual one is https://analytex.userpilot.io, in the EU https://analytex-eu.userpilot.io.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _session(api_key: str, user_agent: str) -> requests.Session:
    import requests

    from warehouse_sync.userpilot.connections import Adapter

    if not re.fullmatch(r"[\x21-\x7e]+", api_key):
        raise AuthError(
            "the API key is empty, or holds spaces or characters that a header cannot carry", hint=AUTH_HINT
        )

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Token {api_key}"
        return request

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    # An `auth` of our own keeps .netrc from replacing the header; the environment still names proxies and CA bundles.
    session.auth = authorize
    session.headers.update({"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"})
    return session


def _same_origin_path(base: str, links: str) -> str:
    """The path (and query) of `links` when it stays on the origin of `base`, else ''."""
    if not links:
        return ""
    with suppress(ValueError):
        ours, theirs = urlsplit(base), urlsplit(urljoin(base + "/", links))
        if _origin(ours.scheme, ours.hostname, ours.port) == _origin(theirs.scheme, theirs.hostname, theirs.port):
            path = theirs.path.removeprefix(ours.path) if ours.path else theirs.path
            return path + (f"?{theirs.query}" if theirs.query else "")
    return ""


def _origin(scheme: str, host: str | None, port: int | None) -> tuple[str, str | None, int]:
    return scheme, host, port or (443 if scheme == "https" else 80)


def _unclear(message: str, answer: _Answer, hint: str = "") -> Unclear:
    known = f" (request id {answer.request_id})" if answer.request_id else ""
    return Unclear(message + known, status=answer.status, request_id=answer.request_id, hint=hint)


__all__ = ["Client", "RemoteCheck", "RemoteJob"]
