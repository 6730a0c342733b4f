"""Makes a change of roles, password, session or API key bite on every worker."""

from collections.abc import Sequence

from app.models.events import Event, EventKind
from app.services.authentication import Authenticator


def forget_changed(authenticator: Authenticator, events: Sequence[Event]) -> None:
    """Forget the principals that events tell of."""
    for event in events:
        if event.kind == EventKind.SESSION_ENDED:
            authenticator.forget_session(event.subject_id)
        elif event.kind == EventKind.API_KEY_CHANGED:
            authenticator.forget_key(event.subject_id)
        elif event.kind == EventKind.USER_UPDATED:
            authenticator.forget_user(event.subject_id)
