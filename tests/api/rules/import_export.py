"""Who may export and import items."""

from tests.api.rules import EVERYONE, Rules

rules = Rules(operations={"GET /items/export": EVERYONE})
