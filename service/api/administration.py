"""Pages for administrators: people, one-time links, tokens, the audit trail. Plain forms, no script."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service.access import GRANTS, Caller, Permission, Role
from service.api.callers import require
from service.api.dependencies import Parts, PartsOf, refuse_unknown_parameters
from service.filters import NO_NUL
from service.store import looks, people, trail
from service.store.trail import TrailQuery

PAGE_LENGTH = 100
LONGEST_LIFE_DAYS = 3660

Page = Callable[..., HTMLResponse]
Admin = Annotated[Caller, Depends(require(Permission.ADMINISTER))]
MaybeName = Annotated[str, Form(max_length=people.LONGEST_NAME, pattern=NO_NUL)]
Name = Annotated[str, Form(min_length=1, max_length=people.LONGEST_NAME, pattern=NO_NUL)]
Given = Annotated[str, Query(max_length=people.LONGEST_NAME, pattern=NO_NUL)]


def router(page: Page) -> APIRouter:
    """Routes of the administrators' pages.

    Parameters
    ----------
    page : callable
        Renders a template by name.
    """
    routes = APIRouter(prefix="/admin", include_in_schema=False, default_response_class=HTMLResponse)
    _people(routes, page)
    _tokens(routes, page)
    _audit(routes, page)
    return routes


def _people(routes: APIRouter, page: Page) -> None:
    @routes.get("/people")
    def show(parts: PartsOf, caller: Admin) -> HTMLResponse:
        """Accounts and tokens."""
        return _show(page, parts, caller)

    @routes.post("/people")
    def invite(
        request: Request, parts: PartsOf, caller: Admin, role: Annotated[Role, Form()], name: MaybeName = ""
    ) -> HTMLResponse:
        """Make a one-time link, and tell it this once."""
        with parts.store.transaction() as session:
            secret = people.invite(session, role, actor=caller.name, name=name.strip() or None)
        home = parts.address or str(request.base_url).rstrip("/")
        address = home + people.welcome_path(secret)
        return _show(page, parts, caller, told=("One-time link, for a day", address))

    @routes.post("/people/role")
    def change_role(parts: PartsOf, caller: Admin, name: Name, role: Annotated[Role, Form()]) -> Response:
        """Give an account another role."""
        with parts.store.transaction() as session:
            people.change_role(session, name, role, actor=caller.name)
        return _back()

    @routes.post("/people/end")
    def end(parts: PartsOf, caller: Admin, name: Name) -> Response:
        """End an account and its sessions."""
        with parts.store.transaction() as session:
            people.end_account(session, name, actor=caller.name)
        return _back()


def _tokens(routes: APIRouter, page: Page) -> None:
    @routes.post("/tokens")
    def make(
        parts: PartsOf,
        caller: Admin,
        name: Name,
        role: Annotated[Role, Form()],
        days: Annotated[int, Form(ge=0, le=LONGEST_LIFE_DAYS)] = 0,
    ) -> HTMLResponse:
        """Make a token, and tell its secret this once; 0 days: until it is revoked."""
        life = timedelta(days=days) if days else None
        with parts.store.transaction() as session:
            _, secret = people.make_token(session, name, role, actor=caller.name, life=life)
        return _show(page, parts, caller, told=(f"Token {name}", secret))

    @routes.post("/tokens/{token_id}/revoke")
    def revoke(parts: PartsOf, caller: Admin, token_id: Annotated[int, Path(ge=1, lt=2**63)]) -> Response:
        """End a token at once; harmless where it has ended."""
        with parts.store.transaction() as session:
            people.revoke_token(session, token_id, actor=caller.name)
        return _back()


def _audit(routes: APIRouter, page: Page) -> None:
    @routes.get("/audit", dependencies=[Depends(refuse_unknown_parameters)])
    def read(
        parts: PartsOf,
        caller: Admin,
        actor: Given = "",
        action: Given = "",
        study: Given = "",
        day: Given = "",
        before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    ) -> HTMLResponse:
        """The audit trail, newest first, by who, what, which study and which day."""
        asked = {"actor": actor.strip(), "action": action.strip(), "study": study.strip(), "day": day.strip()}
        since, until, problem = _day(asked["day"])
        query = TrailQuery(
            actor=asked["actor"] or None,
            action=asked["action"] or None,
            study_key=asked["study"] or None,
            since=since,
            until=until,
            before=before,
        )
        with parts.store.transaction() as session:
            rows = [] if problem else trail.read(session, query, limit=PAGE_LENGTH + 1)
            shown, more = rows[:PAGE_LENGTH], rows[PAGE_LENGTH:]
            by = ", ".join(name for name, value in asked.items() if value)  # what was typed may be a name
            looks.queried(session, "audit", {"filters": by}, found=len(shown), actor=caller.name)
        kept = {name: value for name, value in asked.items() if value}
        older = urlencode(kept | {"before": shown[-1].number}) if more else None
        return page("audit.html", caller=caller, rows=shown, asked=asked, older=older, problem=problem)


def _show(page: Page, parts: Parts, caller: Caller, *, told: tuple[str, str] | None = None) -> HTMLResponse:
    with parts.store.transaction() as session:
        found: dict[str, Any] = {
            "accounts": people.accounts(session),
            "tokens": people.tokens(session),
            "now": datetime.now(UTC),
        }
    return page("people.html", caller=caller, told=told, roles=list(Role), grants=GRANTS, **found)


def _back() -> RedirectResponse:
    return RedirectResponse("/admin/people", HTTPStatus.SEE_OTHER)


def _day(told: str) -> tuple[datetime | None, datetime | None, str | None]:
    """Beginning and end of a day in this machine's zone, or what is wrong with it."""
    if not told:
        return None, None, None
    try:
        day = date.fromisoformat(told)
        # Not 24 hours on: a day on which the clocks change has 23 or 25.
        begins, ends = (datetime.combine(one, time()).astimezone() for one in (day, day + timedelta(days=1)))
    except (ValueError, OverflowError):
        return None, None, "Write the day as 2026-03-31."
    return begins, ends, None
