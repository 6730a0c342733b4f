"""Tells the owner of an account when it is signed in to from a device or place that is new."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.adapters.database import Connection
from app.clock import now
from app.mail.letters import Letter
from app.models.users import User
from app.repositories.sessions import Place, SessionRepository
from app.services.post import Post, said_time
from app.services.sessions import Device, network_of

_REMEMBERED = timedelta(days=30)  # as long as sessions are kept that nobody uses
_YOUNG = timedelta(days=1)  # an account's first sign-in surprises nobody
# Who knows the password and changes the place each time sends the owner no more than these.
_AT_MOST, _WITHIN = 5, timedelta(hours=1)

# Looked for in this order: most browsers also claim to be others.
_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "Chrome/": "Chrome",
    "CriOS/": "Chrome",
    "Safari/": "Safari",
    "curl/": "curl",
    "python": "a Python program",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "CrOS": "ChromeOS",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}


async def tell_of_sign_in(post: Post, connection: Connection, user: User, device: Device) -> None:
    """Write to the owner in the transaction that opens a session, where it is unusual."""
    moment = now()
    lately = await SessionRepository(connection).places_since(user.id, moment - _REMEMBERED)
    is_first = not lately and user.created_at > moment - _YOUNG
    if is_first or is_known(device, lately) or not has_room(lately, moment):
        return
    await post.put(
        connection,
        Letter.NEW_SIGN_IN,
        user.email,
        device=described(device.user_agent),
        address=device.address or "unknown",
        time=said_time(),
    )


def is_known(device: Device, lately: Sequence[Place]) -> bool:
    """Tell whether both the kind of device and the neighbourhood were seen before."""
    kinds = {described(each.user_agent) for each in lately}
    networks = {network_of(each.address) for each in lately}
    return described(device.user_agent) in kinds and network_of(device.address) in networks


def has_room(lately: Sequence[Place], moment: datetime) -> bool:
    """Tell whether the owner can have had fewer than five notices within the hour."""
    recent = [each for each in lately if each.created_at > moment - _WITHIN]
    return len({(described(p.user_agent), network_of(p.address)) for p in recent}) < _AT_MOST


def described(user_agent: str | None) -> str:
    """Return what a device is, without its versions, which change, or a word of its own choice."""
    text = user_agent or ""
    browser = next((name for sign, name in _BROWSERS.items() if sign in text), None)
    system = next((name for sign, name in _SYSTEMS.items() if sign in text), None)
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or "an unknown device"
