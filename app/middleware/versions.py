"""Chooses the API version of a request, and says on each answer which one served it."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import UnsupportedApiVersion
from app.middleware.problems import problem_response

VERSIONS = ("v1", "v2")
DEFAULT = "v1"
_VARY = "API-Version, Accept"
_HEADER = re.compile(r"v?([0-9]{1,3})(\.0)?", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"application/vnd\.kingpost\.v([0-9]{1,3})\+json", re.IGNORECASE)
_IN_PATH = re.compile(r"/api/v([0-9]+)(/|$)")


class VersionNegotiation:
    """The path wins; else the `API-Version` header, else `Accept`, else v1.

    It stands around the error boundary, so that refusals and failures name their version too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        deprecated_at: Mapping[str, datetime] | None = None,
        sunset_at: Mapping[str, datetime] | None = None,
    ) -> None:
        self._app = app
        self._retiring = {
            version: _retirement_headers(
                (deprecated_at or {}).get(version), (sunset_at or {}).get(version)
            )
            for version in VERSIONS
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith("/api/"):
            await self._app(scope, receive, send)
            return
        in_path = _IN_PATH.match(path)
        try:
            version = _known(f"v{in_path[1]}") if in_path else _asked_for(scope)
        except UnsupportedApiVersion as error:
            refusal = problem_response(error, scope)
            if not in_path:
                refusal.headers.add_vary_header(_VARY)
            await refusal(scope, receive, send)
            return
        if not in_path:
            path = f"/api/{version}{path.removeprefix('/api')}"
            # In place: those outside look at the route that is found here.
            scope.update(path=path, raw_path=path.encode())

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["API-Version"] = version.removeprefix("v")
                if not in_path:
                    headers.add_vary_header(_VARY)
                for name, value in self._retiring[version].items():
                    headers.append(name, value)
                if self._retiring[version]:
                    newer = path.replace(f"/api/{version}", f"/api/{VERSIONS[-1]}", 1)
                    headers.append("Link", f'<{newer}>; rel="successor-version"')
            await send(message)

        await self._app(scope, receive, send_with_version)


def version_of_header(value: str) -> str:
    """Return the version that an `API-Version` header names: `1`, `1.0`, `v1`.

    Raises:
        UnsupportedApiVersion: there is no such version.
    """
    found = _HEADER.fullmatch(value.strip())
    return _known(f"v{int(found[1])}" if found else value)


def version_of_accept(value: str) -> str | None:
    """Return the version that `Accept` prefers, or None where it names none of ours.

    Raises:
        UnsupportedApiVersion: it names only versions that do not exist.
    """
    ranked: list[tuple[float, str]] = []
    for entry in value.split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        found = _MEDIA_TYPE.fullmatch(media_type)
        if found:
            ranked.append((_quality(parameters), f"v{int(found[1])}"))
    wanted = [each for each in ranked if each[0] > 0]
    if not wanted:
        return None
    known = [each for each in wanted if each[1] in VERSIONS]
    if not known:
        raise _unsupported(wanted[0][1])
    return max(known, key=lambda each: each[0])[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _asked_for(scope: Scope) -> str:
    accept = None
    for name, value in scope["headers"]:
        if name == b"api-version":
            return version_of_header(value.decode("latin-1"))
        if name == b"accept" and b"vnd.kingpost" in value.lower():
            accept = version_of_accept(value.decode("latin-1"))
    return accept or DEFAULT


def _known(version: str) -> str:
    if version not in VERSIONS:
        raise _unsupported(version)
    return version


def _unsupported(version: str) -> UnsupportedApiVersion:
    known = ", ".join(VERSIONS)
    detail = f"There is no API version {version[:20]!a}; there are: {known}"
    return UnsupportedApiVersion(detail)


def _retirement_headers(
    deprecated_at: datetime | None, sunset_at: datetime | None
) -> dict[str, str]:
    """Return `Deprecation` (RFC 9745) and `Sunset` (RFC 8594), where there is a date."""
    headers = {}
    if deprecated_at or sunset_at:
        since = deprecated_at or datetime.now(UTC)
        headers["Deprecation"] = f"@{int(since.timestamp())}"
    if sunset_at:
        headers["Sunset"] = format_datetime(sunset_at.astimezone(UTC), usegmt=True)
    return headers
