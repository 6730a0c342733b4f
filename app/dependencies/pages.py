"""Which page of a list is asked for: by offset in v1, by cursor in v2."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from app.security.signing import CursorSigner


class OffsetPage(BaseModel):
    """A page by offset."""

    skip: int = Field(0, ge=0, le=2**31 - 1, description="How many to pass over.")
    limit: int = Field(20, ge=1, le=100, description="How many to return.")


class CursorPage(BaseModel):
    """A page by cursor."""

    cursor: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description="`nextCursor` of the page before; only good for the same filter and sort."
    )
    limit: int = Field(20, ge=1, le=100, description="How many to return.")

    def after_id(self, signer: CursorSigner, scope: str) -> int:
        """Return the id after which the page begins, in a list that is ordered by id.

        Raises:
            InvalidCursor: the cursor was not made by us for this scope.
        """
        return int(signer.decode(self.cursor, scope)["i"]) if self.cursor else 0


Offset = Annotated[OffsetPage, Query()]
Cursor = Annotated[CursorPage, Query()]
