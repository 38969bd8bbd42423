"""Who gets in, and what: the key, sizes and kinds of bodies, before a request is read."""

import asyncio
import hmac
import ipaddress
import urllib.parse
from http import HTTPStatus

import orjson

from kzoo.serving import metrics
from kzoo.serving.errors import Refused, shown

_OPEN = ("/v2/health/live", "/v2/health/ready")  # for probes, which have no key
_METRICS = "/metrics"
_KINDS = ("application/json", "application/octet-stream")
_BODIES = 8  # the bodies of all requests together have so many times --max_body_mb


class Key:
    """The bearer token of a server. Without one, nobody may control the repository.

    Args:
        api_key: str or None.
    """

    def __init__(self, api_key):
        self._expected = None if api_key is None else f"Bearer {api_key}".encode()

    def check(self, authorization, controls_repository):
        """Raises Refused, status 401 or 403, if a request does not belong.

        Args:
            authorization: bytes, what the request says under that name; may be empty.
            controls_repository: bool, whether it loads or unloads a model.
        """
        if self._expected is None:
            if controls_repository:
                message = "Models are loaded and unloaded only at servers with --api_key."
                raise Refused(message, HTTPStatus.FORBIDDEN)
        elif not hmac.compare_digest(authorization, self._expected):
            message = "`Authorization` must be `Bearer` and the key of the server."
            raise Refused(message, HTTPStatus.UNAUTHORIZED)


class Bodies:
    """The bytes that all requests at a port hold together.

    Args:
        most: int, most bytes of one body; together they have eight times as many.
    """

    def __init__(self, most):
        self.held, self._most = 0, _BODIES * most

    def take(self, size):
        """Counts bytes, until `held` is made less; raises Refused, status 429, for too many."""
        self.held += size
        if self.held > self._most:
            message = "The server holds too many large requests, try again later."
            raise Refused(message, HTTPStatus.TOO_MANY_REQUESTS)


def check_site(headers, host):
    """Raises Refused, status 403, for what a page of another site sends from the user's browser.

    A browser names the page's site in `Sec-Fetch-Site` or `Origin`, and no other program does. A
    name of that site which leads to a loopback address (DNS rebinding) stands in `Host`.

    Args:
        headers: dict of bytes by name, in small letters.
        host: str, the address that the server listens on.
    """
    names = (b"sec-fetch-site", b"origin", b"host")
    site, origin, named = (headers.get(name, b"").decode("latin-1").lower() for name in names)
    if site not in ("", "none", "same-origin"):
        wrong = f"`Sec-Fetch-Site` must be none or same-origin, got {shown(site)}"
    elif origin and origin.partition("://")[2] != named:
        wrong = f"`Origin` must be the server's own, {shown(named)}, got {shown(origin)}"
    elif named and _is_loopback(host) and not _is_loopback(_without_port(named)):
        wrong = f"`Host` must be localhost or a loopback address, got {shown(named)}"
    else:
        return
    message = f"A server without --api_key answers no page of another site: {wrong}."
    raise Refused(message, HTTPStatus.FORBIDDEN)


def _without_port(named):
    try:
        return urllib.parse.urlsplit(f"//{named}").hostname or ""
    except ValueError:  # it is no name
        return ""


def _is_loopback(name):
    name = name.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Gate:
    """ASGI middleware that refuses before anything is read.

    Args:
        app: what it stands before.
        api_key: str or None, see `Key`; without one see `check_site`.
        host: str, the address that the server listens on.
        max_body_mb: float, most megabytes of a body.
        seconds: float, longest wait for a body.
        metrics: "open" if /metrics needs no key, else "key".
    """

    def __init__(self, app, api_key, host, max_body_mb, seconds, metrics="key"):
        self._app, self._key, self._seconds = app, Key(api_key), seconds
        self._host, self._has_key = host, api_key is not None
        self._without_key = {_METRICS} if metrics == "open" else set()
        self._most, self._max_body_mb = round(max_body_mb * 1e6), max_body_mb
        self._bodies = Bodies(self._most)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets
        held, has_begun = 0, False

        async def limited():
            nonlocal held
            message = await asyncio.wait_for(receive(), max(end - loop.time(), 0))
            size = len(message.get("body", b""))
            held += size
            self._bodies.take(size)
            if held > self._most:
                raise self._too_large(held)
            return message

        async def noted(message):
            nonlocal has_begun
            has_begun = True
            await send(message)

        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        try:
            self._check(scope)
            body = await _whole(limited) if scope["method"] == "POST" else b""
            await self._app(scope, _replayed(body, receive), noted)
        except Refused as refused:
            await _refuse(refused, send)
        except (TimeoutError, asyncio.TimeoutError):
            if not has_begun:
                message = f"The body must come within {self._seconds:g} seconds."
                await _refuse(Refused(message, HTTPStatus.REQUEST_TIMEOUT), send)
        except ConnectionResetError:
            pass  # the client has gone
        finally:
            self._bodies.held -= held

    def _check(self, scope):
        headers, path = dict(scope["headers"]), scope["path"]
        is_control = path.startswith("/v2/repository/models/")
        if path not in _OPEN:
            if path not in self._without_key:
                self._key.check(headers.get(b"authorization", b""), is_control)
            if not self._has_key:
                check_site(headers, self._host)
        if scope["method"] != "POST":
            return
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding != b"identity":
            message = f"`Content-Encoding` must be left out, got {shown(encoding)}."
            raise Refused(message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        kind = headers.get(b"content-type", b"application/json").decode("latin-1")
        # What a page of another site may send without asking first is not among these kinds.
        if kind.split(";")[0].strip().lower() not in _KINDS:
            message = f"`Content-Type` must be one of {_KINDS}, got {shown(kind)}."
            raise Refused(message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._most:
            raise self._too_large(int(length[:20]))

    def _too_large(self, size):
        return Refused(
            f"A body must have at most --max_body_mb {self._max_body_mb:g}, "
            f"got {size / 1e6:,.1f} or more.",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )


async def _whole(receive):
    """The body of a request."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionResetError
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _replayed(body, receive):
    """A `receive` that gives a whole body, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed():
        return messages.pop() if messages else await receive()

    return replayed


async def _refuse(refused, send):
    metrics.REFUSED.labels(refused.status.value).inc()
    body = orjson.dumps({"error": str(refused)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refused.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.append((b"connection", b"close"))  # the rest of a body is not waited for
    start = {"type": "http.response.start", "status": refused.status.value, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
