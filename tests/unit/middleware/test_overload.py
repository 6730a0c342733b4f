"""What is too much is refused at once; what waits for a client takes nobody's place."""

import asyncio
import json
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.middleware.overload import Shedding
from app.middleware.request_context import RequestContextMiddleware
from app.observability.metrics import Metrics


class Service:
    """An app whose requests go on until told, in the way that their path says."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_end = asyncio.Event()
        self.came_in = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came_in += 1
        if scope["path"] == "/fails":
            await self.may_answer.wait()
            raise RuntimeError
        if scope["path"] == "/takes-a-body":
            await receive()
        if scope["path"] == "/streams":
            listening = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            await _begin(send)
            await self.may_end.wait()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        else:
            await self.may_answer.wait()
            await _begin(send)
        await send({"type": "http.response.body", "body": b""})


async def _begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


class Front:
    """Asks the service through the shedding, with two places."""

    def __init__(self) -> None:
        self.service = Service()
        self.metrics = Metrics("test")
        self.shedding = Shedding(self.service, at_once=2, metrics=self.metrics)
        self.app = RequestContextMiddleware(self.shedding)
        self.body_may_come = asyncio.Event()
        self.tasks: list[asyncio.Task[list[Message]]] = []

    async def ask(self, path: str, request_id: str = "mine") -> list[Message]:
        """Return what is sent in answer."""
        sent: list[Message] = []

        async def receive() -> Message:
            await self.body_may_come.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"x-request-id", request_id.encode())]
        scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
        await self.app(scope, receive, send)
        return sent

    async def begin(self, *paths: str) -> None:
        """Begin requests, and let each come as far as it can."""
        self.tasks += [asyncio.create_task(self.ask(path)) for path in paths]
        for _ in range(5):
            await asyncio.sleep(0)

    def refused(self) -> int:
        """Return how many of them were refused so far."""
        return sum(status == 503 for status in _statuses(self.tasks))


def _statuses(tasks: Iterable[asyncio.Task[list[Message]]]) -> list[int]:
    done = [task.result() for task in tasks if task.done() and not task.exception()]
    return [sent[0]["status"] for sent in done]


async def test_more_than_there_are_places_for_is_refused_at_once() -> None:
    front = Front()
    await front.begin("/", "/", "/", "/")
    assert front.service.came_in == 2
    start, body = front.tasks[-1].result()
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["error_code"] == "OVERLOADED"
    assert b"http_requests_shed_total 2.0" in front.metrics.render()
    front.service.may_answer.set()
    await asyncio.gather(*front.tasks)
    assert sorted(_statuses(front.tasks)) == [200, 200, 503, 503]
    assert front.shedding.working == 0


async def test_each_refusal_is_a_problem_with_its_own_path_and_id() -> None:
    front = Front()
    await front.begin("/", "/")
    for path, shown, request_id in (
        ("/id", "/id", "a"),
        ('/"ä', "/%22%C3%A4", "b"),
        ("/id", "/id", "c"),
    ):
        start, body = await front.ask(path, request_id)
        assert (b"content-type", b"application/problem+json") in start["headers"]
        assert (b"content-length", b"%d" % len(body["body"])) in start["headers"]
        assert json.loads(body["body"]) == {
            "type": "urn:kingpost:error:overloaded",
            "title": "Too many requests at once; try again later",
            "status": 503,
            "detail": "Too many requests at once; try again later",
            "instance": shown,
            "error_code": "OVERLOADED",
            "request_id": request_id,
        }
    front.service.may_answer.set()
    await asyncio.gather(*front.tasks)


@pytest.mark.parametrize("path", ["/takes-a-body", "/streams"])
async def test_what_waits_for_its_client_takes_no_place(path: str) -> None:
    front = Front()
    for _ in range(4):
        await front.begin(path)
    assert front.shedding.working == 0
    await front.begin("/", "/")
    assert (front.refused(), front.shedding.working) == (0, 2)
    front.body_may_come.set()
    front.service.may_answer.set()
    front.service.may_end.set()
    await asyncio.gather(*front.tasks)
    assert front.shedding.working == 0


async def test_whoever_looks_why_it_is_slow_is_answered() -> None:
    front = Front()
    await front.begin("/", "/", "/health/live", "/metrics")
    assert (front.service.came_in, front.refused()) == (4, 0)
    front.service.may_answer.set()
    await asyncio.gather(*front.tasks)


async def test_what_fails_or_is_cut_off_gives_its_place_back() -> None:
    front = Front()
    await front.begin("/fails", "/")
    front.tasks[1].cancel()
    front.service.may_answer.set()
    await asyncio.gather(*front.tasks, return_exceptions=True)
    assert front.shedding.working == 0
