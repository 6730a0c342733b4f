"""Accounts over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.dependencies.auth import Admin, CurrentUser, OptionalUser, require_granted
from app.dependencies.items import CursorQuery, OffsetQuery
from app.dependencies.limits import rate_limit
from app.dependencies.pages import Cursor, Offset
from app.dependencies.resources import CurrentResources
from app.errors import NotFound
from app.models.items import Item
from app.models.users import User
from app.repositories.items import ItemRepository
from app.repositories.users import UserRepository
from app.resources import Resources
from app.routers.item_pages import page_by_cursor, page_by_offset
from app.routers.pages import link_by_cursor, link_by_offset
from app.routers.versioning import Resource
from app.schemas.account_export import AccountExport
from app.schemas.base import Line, PathId
from app.schemas.items import ItemCursorPage, ItemPage
from app.schemas.problems import problems
from app.schemas.users import (
    Include,
    ProfilePatch,
    SuspensionIn,
    UserCursorPage,
    UserOut,
    UserPage,
    UserPatch,
    UserPublic,
)
from app.security.principal import Principal, Role
from app.security.scopes import Scope
from app.services import account_export

router = APIRouter(prefix="/users", tags=["users"])
by_offset = APIRouter(prefix="/users", tags=["users"])
by_cursor = APIRouter(prefix="/users", tags=["users"])

resource = Resource(
    shared=(router,),
    v1=(by_offset,),
    v2=(by_cursor,),
    successors={AccountExport: AccountExport},  # a file for keeps, not an answer to a program
)

UserId = Annotated[PathId, Path(description="The account's id.", examples=[7])]
RoleFilter = Annotated[Role | None, Query(description="Only those with this role.")]
ActiveFilter = Annotated[bool | None, Query(description="Only those that are (not) active.")]
Wanted = Annotated[
    Line | None, Query(max_length=100, description="Part of a username, address or name.")
]
Limit = Annotated[int, Query(ge=1, le=100, description="How many to return.")]
Includes = Annotated[Include | None, Query(description="`items`: the first 20 of each account.")]

_ITEMS_EACH = 20


@router.get("/me", response_model=UserOut, summary="Read own account", responses=problems(401, 503))
async def read_me(caller: CurrentUser, resources: CurrentResources) -> Any:
    """Read the caller's account."""
    return await resources.accounts.get(caller.user_id)


@router.patch(
    "/me",
    response_model=UserOut,
    summary="Change own account",
    responses=problems(400, 401, 409, 413, 415, 422, 429, 503),
)
async def change_me(body: ProfilePatch, caller: CurrentUser, resources: CurrentResources) -> Any:
    """Change the caller's username or full name."""
    return await resources.accounts.change(caller.user_id, body, caller)


@router.delete(
    "/me", status_code=204, summary="Delete own account", responses=problems(401, 409, 429, 503)
)
async def delete_me(caller: CurrentUser, resources: CurrentResources) -> None:
    """Delete the caller's account, and with it everything that it owns."""
    await resources.accounts.delete(caller.user_id, caller)


@router.get(
    "/me/export",
    response_model=AccountExport,
    summary="Take all own data home",
    dependencies=[Depends(rate_limit("account_export"))],
    responses=problems(401, 429, 503),
)
async def export_me(caller: CurrentUser, resources: CurrentResources) -> Any:
    """Download all that is kept of the caller's account as one JSON document, without secrets.

    It is streamed as it is read, and the same in every version of the API.
    """
    user = await resources.accounts.get(caller.user_id)
    return StreamingResponse(
        await account_export.export(resources.db, user),
        media_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="kingpost-account-{user.id}.json"',
        },
    )


@by_offset.get(
    "",
    response_model=UserPage,
    summary="List accounts",
    responses=problems(401, 403, 422, 429, 503),
)
async def list_users_by_offset(
    request: Request,
    response: Response,
    caller: Admin,
    resources: CurrentResources,
    role: RoleFilter = None,
    is_active: ActiveFilter = None,
    q: Wanted = None,
    include: Includes = None,
    skip: Annotated[int, Query(ge=0, le=2**31 - 1, description="How many to pass over.")] = 0,
    limit: Limit = 20,
) -> Any:
    """List accounts, for admins."""
    async with resources.db.read() as connection:
        repository = UserRepository(connection)
        found = await repository.page(role=role, is_active=is_active, q=q, skip=skip, limit=limit)
        total = await repository.count(role=role, is_active=is_active, q=q)
    link_by_offset(request, response, skip=skip, limit=limit, total=total)
    items = await _with_items(resources, found, caller, include)
    return {"items": items, "total": total, "skip": skip, "limit": limit}


@by_cursor.get(
    "",
    response_model=UserCursorPage,
    summary="List accounts",
    responses=problems(400, 401, 403, 422, 429, 503),
)
async def list_users_by_cursor(
    request: Request,
    response: Response,
    caller: Admin,
    resources: CurrentResources,
    role: RoleFilter = None,
    is_active: Annotated[
        bool | None, Query(alias="isActive", description="Only those that are (not) active.")
    ] = None,
    by_name: Annotated[bool | None, Query(alias="is_active", include_in_schema=False)] = None,
    q: Wanted = None,
    include: Includes = None,
    cursor: Annotated[
        str | None, Query(max_length=2048, description="`nextCursor` of the page before.")
    ] = None,
    limit: Limit = 20,
) -> Any:
    """List accounts, for admins."""
    is_active = by_name if is_active is None else is_active
    scope = f"users:{role}:{is_active}:{q}"
    after = int(resources.cursors.decode(cursor, scope)["i"]) if cursor else 0
    async with resources.db.read() as connection:
        found = await UserRepository(connection).page(
            role=role, is_active=is_active, q=q, limit=limit + 1, after_id=after
        )
    page = found[:limit]
    next_cursor = None
    if len(found) > limit:
        next_cursor = resources.cursors.encode({"i": page[-1].id}, scope)
    link_by_cursor(request, response, next_cursor=next_cursor)
    items = await _with_items(resources, page, caller, include)
    return {"items": items, "next_cursor": next_cursor, "has_more": next_cursor is not None}


@router.get(
    "/{user_id}",
    response_model=UserOut | UserPublic,
    summary="Read an account",
    responses=problems(401, 404, 422, 429, 503),
)
async def read_user(user_id: UserId, caller: CurrentUser, resources: CurrentResources) -> Any:
    """Read an account: all of it for itself and admins, its public face for others."""
    user = await resources.accounts.get(user_id)
    if caller.user_id == user_id or caller.is_admin:
        return UserOut.model_validate(user)
    if not user.is_active:
        raise NotFound("There is no such user")
    return UserPublic.model_validate(user)


@router.patch(
    "/{user_id}",
    response_model=UserOut,
    summary="Change an account",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
)
async def change_user(
    user_id: UserId, body: UserPatch, caller: Admin, resources: CurrentResources
) -> Any:
    """Change an account's roles, active flag or names, for admins."""
    return await resources.accounts.change(user_id, body, caller)


@router.post(
    "/{user_id}/suspend",
    response_model=UserOut,
    summary="Suspend an account",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
)
async def suspend_user(
    user_id: UserId, body: SuspensionIn, caller: Admin, resources: CurrentResources
) -> Any:
    """Keep an account out, for admins: its sessions end everywhere within a second.

    Signing in to it is answered as with a wrong password. What it owns stays as it is.
    """
    return await resources.accounts.suspend(user_id, body.reason, caller)


@router.post(
    "/{user_id}/unsuspend",
    response_model=UserOut,
    summary="Let a suspended account in again",
    responses=problems(401, 403, 404, 422, 429, 503),
)
async def unsuspend_user(user_id: UserId, caller: Admin, resources: CurrentResources) -> Any:
    """End an account's suspension, for admins; its owner signs in anew."""
    return await resources.accounts.unsuspend(user_id, caller)


@router.delete(
    "/{user_id}",
    status_code=204,
    summary="Delete an account",
    responses=problems(401, 403, 404, 409, 422, 429, 503),
)
async def delete_user(user_id: UserId, caller: Admin, resources: CurrentResources) -> None:
    """Delete an account and everything that it owns, for admins."""
    await resources.accounts.delete(user_id, caller)


@by_offset.get(
    "/{user_id}/items",
    response_model=ItemPage,
    summary="List an account's items",
    responses=problems(401, 404, 422, 429, 503),
)
async def list_items_of_user_by_offset(
    request: Request,
    response: Response,
    user_id: UserId,
    viewer: OptionalUser,
    resources: CurrentResources,
    page: Offset,
) -> Any:
    """List what an account owns and the caller may read."""
    await resources.accounts.get(user_id)
    query = OffsetQuery(owner_id=user_id, skip=page.skip, limit=page.limit)
    return await page_by_offset(request, response, query, viewer, resources)


@by_cursor.get(
    "/{user_id}/items",
    response_model=ItemCursorPage,
    summary="List an account's items",
    responses=problems(400, 401, 404, 422, 429, 503),
)
async def list_items_of_user_by_cursor(
    request: Request,
    response: Response,
    user_id: UserId,
    viewer: OptionalUser,
    resources: CurrentResources,
    page: Cursor,
) -> Any:
    """List what an account owns and the caller may read."""
    await resources.accounts.get(user_id)
    query = CursorQuery(owner_id=user_id, cursor=page.cursor, limit=page.limit)
    return await page_by_cursor(request, response, query, viewer, resources)


async def _with_items(
    resources: Resources, users: list[User], viewer: Principal, include: str | None
) -> list[dict[str, Any]]:
    owned: dict[int, list[Item]] = {}
    if include == "items":
        require_granted(viewer, Scope.ITEMS_READ)
        async with resources.db.read() as connection:
            owned = await ItemRepository(connection).owned_by(
                [user.id for user in users], viewer, limit_each=_ITEMS_EACH
            )
    return [{**user._asdict(), "items": owned.get(user.id)} for user in users]
