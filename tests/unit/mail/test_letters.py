"""Every letter can be written, says the same in both forms, and takes nothing for markup."""

import re
from html import unescape

import pytest

from app.mail.letters import SUBJECTS, Letter, link, render

FACTS = {
    "token": "kpm_token",
    "cancel_token": "kpm_cancel",
    "new_email": "new@example.com",
    "device": "Firefox on Linux",
    "address": "203.0.113.9",
    "host": "hooks.example.com",
    "reason": "it said that it is gone for good",
    "number": "42",
    "time": "21 November 2026, 08:04 UTC",
}
URL = "https://kingpost.example/"


@pytest.mark.parametrize("letter", Letter)
def test_both_forms_say_the_same(letter: Letter) -> None:
    content = render(letter, URL, FACTS)
    assert content.subject == SUBJECTS[letter]
    links = re.findall(r"https://kingpost\.example/#\S+", content.text)
    assert re.findall(r'href="([^"]+)"', content.html) == links
    shown = unescape(re.sub(r"<[^>]+>", " ", content.html))
    for fact in FACTS.values():
        assert (fact in content.text) == (fact in shown or fact in content.html)
    for part in (content.text, content.html):
        assert "{" not in re.sub(r"<style.*?</style>", "", part)
        assert "http" not in part.replace("https://kingpost.example", "")


@pytest.mark.parametrize("letter", Letter)
def test_a_fact_is_never_markup(letter: Letter) -> None:
    content = render(letter, URL, dict.fromkeys(FACTS, '"><img src=x>'))
    assert "<img" not in content.html


def test_a_token_stands_where_no_server_sees_it() -> None:
    assert link("https://a.example/kp/", "reset-password", "t") == (
        "https://a.example/kp/#reset-password=t"
    )
