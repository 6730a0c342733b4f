"""Who may call what of jobs: nobody has the one that they are called with."""

from tests.api.rules import SIGNED_IN, Rules

_ABSENT = "401 404 404 404 404 401"

rules = Rules(
    {
        "GET /jobs": SIGNED_IN,
        "GET /jobs/{job_id}": _ABSENT,
        "DELETE /jobs/{job_id}": _ABSENT,
        "POST /jobs/{job_id}/retry": _ABSENT,
    }
)
