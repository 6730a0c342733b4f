"""Which device is which, whatever it says of itself."""

import pytest

from app.services.notices import described

CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
WINDOWS = "Windows NT 10.0; Win64; x64"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (CHROME.format(WINDOWS), "Chrome on Windows"),
        (CHROME.format("Linux; Android 15; Pixel 9"), "Chrome on Android"),
        (CHROME.format("X11; CrOS x86_64 14541.0.0"), "Chrome on ChromeOS"),
        (f"{CHROME.format(WINDOWS)} Edg/140.0.0.0", "Edge on Windows"),
        (f"{CHROME.format(WINDOWS)} OPR/120.0.0.0", "Opera on Windows"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_0) AppleWebKit/605.1.15 (KHTML, like "
            "Gecko) Version/18.0 Safari/605.1.15",
            "Safari on macOS",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
            "(KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1",
            "Chrome on iPhone",
        ),
        ("python-httpx/0.28.1", "a Python program"),
        ("curl/8.5.0", "curl"),
        ("<script>evil.example</script>", "an unknown device"),
        ("", "an unknown device"),
        (None, "an unknown device"),
    ],
)
def test_a_device_has_a_name_of_ours(user_agent: str | None, name: str) -> None:
    assert described(user_agent) == name
