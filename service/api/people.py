"""``/api/v1/me``, ``/people`` and ``/tokens``: who may use this server."""

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi import Path as InPath
from pydantic import Field

from service.access import GRANTS, Caller, Permission, Role
from service.api.callers import require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.once import refuse_idempotency_key
from service.api.problems import ProblemError
from service.api.schemas import Body
from service.filters import NO_NUL
from service.store import people

router = APIRouter(prefix="/api/v1", tags=["people"], dependencies=[Depends(refuse_unknown_parameters)])

Anybody = Annotated[Caller, Depends(require(Permission.VIEW))]
Admin = Annotated[Caller, Depends(require(Permission.ADMINISTER))]
Name = Annotated[str, Field(min_length=1, max_length=people.LONGEST_NAME, pattern=NO_NUL)]
OfAccount = Annotated[str, InPath(min_length=1, max_length=people.LONGEST_NAME, pattern=NO_NUL)]
ONCE = [Depends(refuse_idempotency_key)]  # these answers hold secrets
LONGEST_LIFE_DAYS = 3660


class Me(Body):
    """Who asks, and what they may do."""

    name: str
    role: Role
    permissions: list[Permission]
    csrf: str | None = Field(description="What changes of this session carry as X-CSRF-Token.")


class Account(Body):
    """One person."""

    name: str
    role: Role
    created_at: datetime
    is_active: bool


class Invitation(Body):
    """A one-time link."""

    path: str = Field(description="Address on this server; works once, for a day. It is told only here.")


class Invite(Body):
    """Whom to invite."""

    role: Role
    name: Name | None = Field(None, description="Of an account that is to choose a new password.")


class Change(Body):
    """What becomes of an account."""

    role: Role


class Token(Body):
    """One token, without its secret."""

    id: int
    name: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewToken(Body):
    """A token that is to be made."""

    name: Name
    role: Role = Role.SERVICE
    days: int | None = Field(None, ge=1, le=LONGEST_LIFE_DAYS, description="Null: until it is revoked.")


class MadeToken(Body):
    """A token with its secret, which is told once."""

    token: Token
    secret: str


@router.get("/me")
def read_me(caller: Anybody) -> Me:
    """Who asks, as the server sees it."""
    return Me(name=caller.name, role=caller.role, permissions=sorted(GRANTS[caller.role]), csrf=caller.csrf)


@router.get("/people")
def list_people(parts: PartsOf, _: Admin) -> list[Account]:
    """Every account there ever was."""
    with parts.store.transaction() as session:
        return [Account.model_validate(one) for one in people.accounts(session)]


@router.post("/people", status_code=HTTPStatus.CREATED, dependencies=ONCE)
def invite_person(parts: PartsOf, caller: Admin, invite: Invite) -> Invitation:
    """Make a one-time link for somebody new, or for a new password."""
    with parts.store.transaction() as session:
        secret = people.invite(session, invite.role, actor=caller.name, name=invite.name)
    return Invitation(path=people.welcome_path(secret))


@router.put("/people/{name}")
def change_person(parts: PartsOf, caller: Admin, name: OfAccount, change: Change) -> list[Account]:
    """Give an account another role."""
    with parts.store.transaction() as session:
        people.change_role(session, name, change.role, actor=caller.name)
        return [Account.model_validate(one) for one in people.accounts(session)]


@router.delete("/people/{name}", status_code=HTTPStatus.NO_CONTENT)
def end_person(parts: PartsOf, caller: Admin, name: OfAccount) -> Response:
    """End an account and its sessions at once."""
    with parts.store.transaction() as session:
        people.end_account(session, name, actor=caller.name)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get("/tokens")
def list_tokens(parts: PartsOf, _: Admin) -> list[Token]:
    """Every token there ever was, without its secret."""
    with parts.store.transaction() as session:
        return [Token.model_validate(one) for one in people.tokens(session)]


@router.post("/tokens", status_code=HTTPStatus.CREATED, dependencies=ONCE)
def make_token(parts: PartsOf, caller: Admin, wanted: NewToken) -> MadeToken:
    """Make a token for another system."""
    life = None if wanted.days is None else timedelta(days=wanted.days)
    with parts.store.transaction() as session:
        token, secret = people.make_token(session, wanted.name, wanted.role, actor=caller.name, life=life)
    return MadeToken(token=Token.model_validate(token), secret=secret)


@router.delete("/tokens/{token_id}", status_code=HTTPStatus.NO_CONTENT)
def revoke_token(parts: PartsOf, caller: Admin, token_id: Annotated[int, InPath(ge=1, lt=2**63)]) -> Response:
    """End a token at once."""
    with parts.store.transaction() as session:
        if not people.revoke_token(session, token_id, actor=caller.name):
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                "unknown-token",
                "No token with this number holds.",
                "List them at /api/v1/tokens.",
            )
    return Response(status_code=HTTPStatus.NO_CONTENT)
