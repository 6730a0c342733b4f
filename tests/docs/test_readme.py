"""The README's first requests, run as pasted into two terminals."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import README, fenced
from tests.docs.service import SEPARATOR, as_make_run_starts_it, at, between_paragraphs
from tests.system.browser import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with as_make_run_starts_it(tmp_path_factory.mktemp("readme")) as service:
        yield service


class Terminal:
    """A shell that is typed into, and what it prints."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._shell = subprocess.Popen(
            ["sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._shell.stdin
        assert self._shell.stdout
        self._in, self._out = self._shell.stdin, self._shell.stdout

    def paste(self, block: str) -> None:
        """Type a block; only the address is another one."""
        self._in.write(at(block, self._service))
        self._in.flush()

    def answers(self, block: str) -> list[str]:
        """Paste a block; return what each of its paragraphs printed."""
        self.paste(f"{between_paragraphs(block)}\nprintf '\\036\\n'\necho END\n")
        lines: list[str] = []
        for line in self._out:
            if line == "END\n":
                break
            lines.append(line)
        return [part.strip() for part in "".join(lines).split(SEPARATOR)[:-1]]

    def event(self) -> dict[str, Any]:
        """Return the next event of a stream that runs here."""
        for line in self._out:
            if line.startswith("data: "):
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return event
        raise AssertionError("the stream has ended")

    def wait_for(self, text: str) -> None:
        """Read until a line begins with this."""
        assert any(line.startswith(text) for line in self._out)

    def close(self) -> None:
        """Close the window."""
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        self._in.close()
        self._out.close()


@pytest.fixture
def terminals(service: Service) -> Iterator[tuple[Terminal, Terminal]]:
    both = Terminal(service), Terminal(service)
    # What hangs is closed, and its reader finds the end of what was printed.
    yield both
    for terminal in both:
        terminal.close()


def test_the_first_requests_work_as_pasted(terminals: tuple[Terminal, Terminal]) -> None:
    first_requests, watching, made_twice = fenced(README, "sh")
    first, second = terminals

    _, registered, _, created, found = first.answers(first_requests)
    assert json.loads(registered)["username"] == "ada"
    desk = json.loads(created)
    assert (desk["name"], desk["discounted_price"]) == ("Oak desk", 297.08)
    assert [item["id"] for item in json.loads(found)["items"]] == [desk["id"]]

    second.paste(watching)
    second.wait_for("retry:")

    (answers,) = first.answers(made_twice)
    lamps = [json.loads(line) for line in answers.splitlines()]
    assert lamps[0] == lamps[1]
    assert lamps[0]["displayName"] == "Reading lamp"

    after = 'curl -s $API/items -H "Authorization: Bearer $TOKEN" '
    after += '-H \'Content-Type: application/json\' -d \'{"name": "Rug", "price": 80}\'\n'
    (rug,) = first.answers(after)
    told = [second.event(), second.event()]
    assert [each["type"] for each in told] == ["item.created"] * 2
    assert [each["data"]["id"] for each in told] == [lamps[0]["id"], json.loads(rug)["id"]]


def test_its_two_commands_are_the_first_that_it_names() -> None:
    text = Path(README).read_text(encoding="utf-8")
    commands = [line.split("#")[0].strip() for line in text.splitlines() if line[:9] == "    make "]
    assert commands == ["make run", "make test"]
