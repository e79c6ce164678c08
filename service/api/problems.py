"""Errors as HTTP tells them: RFC 9457 problem documents, or the same words on a page for a browser.

A problem names its remedy and never repeats what was sent: a rejected value may hold an identity (I9).
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import (
    AccountError,
    ConflictError,
    DatabaseError,
    ForgedCursorError,
    RevisionChangedError,
    ScoreChangedError,
    StaleCursorError,
    StudyDeletedError,
    TriageError,
    UnknownCohortError,
    UnknownStudyError,
)
from service.store.answers import KeyReusedError, TooManyKeysError
from service.store.calibrations import (
    CalibrationDecidedError,
    CalibrationKnownError,
    CalibrationStaleError,
    UnknownCalibrationError,
)
from service.store.feedback import (
    ForeignFeedbackError,
    NoSuchPlaceError,
    TooMuchFeedbackError,
    UnknownFeedbackError,
)
from service.store.marks import NobodyToAssignError
from service.store.records import NoScoreError
from service.store.referrals import ReferralMoveError, TooManyReferralsError, UnknownReferralError
from service.store.revival import NothingToSendError
from service.store.saved_filters import TooManyFiltersError

MEDIA_TYPE = "application/problem+json"


class Fault(BaseModel):
    """One part of a request that is wrong."""

    where: str = Field(description="Place and name of the parameter, as query.limit.")
    problem: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: Annotated[str, Field(description="Stable name of the kind of problem, a URN.")]
    title: str
    status: int
    detail: str
    remedy: Annotated[str, Field(description="What to do about it.")]
    faults: list[Fault] = []


class ProblemError(Exception):
    """A request cannot be answered. The problem document says why and what to do."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        remedy: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = problem(status, code, detail, remedy)
        self.headers = headers


# What is said where the framework, not a route, refuses.
_STANDARD: Mapping[int, tuple[str, str, str]] = {
    404: (
        "not-found",
        "Nothing lives at this address.",
        "Start at / for the pages or at /openapi.json for the API.",
    ),
    405: (
        "method-not-allowed",
        "This address does not answer that method.",
        "Read with GET; see /openapi.json.",
    ),
    413: (
        "too-large",
        "The body is larger than anything this address takes.",
        "Send less at once.",
    ),
}

# Errors of our own whose docstring says it all: what is wrong, and after the first full stop what to do.
_TOLD: Mapping[type[TriageError], tuple[HTTPStatus, str]] = {
    CalibrationDecidedError: (HTTPStatus.CONFLICT, "calibration-decided"),
    CalibrationKnownError: (HTTPStatus.CONFLICT, "calibration-known"),
    CalibrationStaleError: (HTTPStatus.CONFLICT, "calibration-stale"),
    ConflictError: (HTTPStatus.PRECONDITION_FAILED, "changed-since"),
    ForgedCursorError: (HTTPStatus.BAD_REQUEST, "forged-cursor"),
    ForeignFeedbackError: (HTTPStatus.FORBIDDEN, "foreign-feedback"),
    KeyReusedError: (HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency-key-reused"),
    TooManyFiltersError: (HTTPStatus.CONFLICT, "too-many-filters"),
    NobodyToAssignError: (HTTPStatus.UNPROCESSABLE_ENTITY, "nobody-to-assign"),
    NoScoreError: (HTTPStatus.NOT_FOUND, "no-score"),
    NothingToSendError: (HTTPStatus.NOT_FOUND, "nothing-to-send"),
    NoSuchPlaceError: (HTTPStatus.UNPROCESSABLE_ENTITY, "no-such-place"),
    ReferralMoveError: (HTTPStatus.CONFLICT, "referral-move"),
    RevisionChangedError: (HTTPStatus.CONFLICT, "revision-changed"),
    ScoreChangedError: (HTTPStatus.CONFLICT, "score-changed"),
    StudyDeletedError: (HTTPStatus.GONE, "study-deleted"),
    StaleCursorError: (HTTPStatus.BAD_REQUEST, "stale-cursor"),
    TooManyKeysError: (HTTPStatus.TOO_MANY_REQUESTS, "too-many-idempotency-keys"),
    TooMuchFeedbackError: (HTTPStatus.CONFLICT, "too-much-feedback"),
    UnknownCalibrationError: (HTTPStatus.NOT_FOUND, "unknown-calibration"),
    TooManyReferralsError: (HTTPStatus.CONFLICT, "too-many-referrals"),
    UnknownCohortError: (HTTPStatus.NOT_FOUND, "unknown-cohort"),
    UnknownFeedbackError: (HTTPStatus.NOT_FOUND, "unknown-feedback"),
    UnknownReferralError: (HTTPStatus.NOT_FOUND, "unknown-referral"),
}

RESPONSES: dict[int | str, dict[str, object]] = {
    "default": {
        "description": "A problem document, whatever went wrong.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def problem(
    status: HTTPStatus, code: str, detail: str, remedy: str, faults: list[Fault] | None = None
) -> Problem:
    """Problem document of one kind.

    Parameters
    ----------
    status : HTTPStatus
    code : str
        Last part of the type's URN.
    detail, remedy : str
        Sentences for people, free of identity.
    faults : list of Fault, optional
    """
    return Problem(
        type=f"urn:vigil:problem:{code}",
        title=status.phrase,
        status=status.value,
        detail=detail,
        remedy=remedy,
        faults=faults or [],
    )


def schemas() -> dict[str, dict[str, object]]:
    """Components that `RESPONSES` refers to."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), Problem.__name__: schema}


def unknown_study() -> Problem:
    """Nobody knows the key."""
    return problem(
        HTTPStatus.NOT_FOUND,
        "unknown-study",
        "No study has this key.",
        "Take a key from the worklist, or list them with `vigil studies list`.",
    )


def account(error: AccountError) -> Problem:
    """An account or a token cannot be made or changed."""
    return problem(HTTPStatus.CONFLICT, "account", str(error), "Correct it and try again.")


def told(error: TriageError) -> Problem:
    """Problem of an error that says itself what to do."""
    status, code = _TOLD[type(error)]
    detail, _, remedy = (type(error).__doc__ or "").partition(". ")
    return problem(status, code, f"{detail}.", remedy)


def too_many_requests(wait_s: int) -> ProblemError:
    """Somebody asks more often than anybody needs to."""
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-requests",
        "Too many requests from this address.",
        f"Wait {wait_s} s and try again.",
        {"Retry-After": str(wait_s)},
    )


def no_model() -> ProblemError:
    """Nobody told us what studies are scored with."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "no-model",
        "This server does not know which model is in service.",
        "Start it by `vigil api` or `vigil up`, with a model activated.",
    )


def too_many_watchers() -> ProblemError:
    """More pages watch the list than this process can tell of changes."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too-many-watchers",
        "Too many pages watch the list.",
        "Close some, or read the list now and then; run more API processes for more people.",
        {"Retry-After": "30"},
    )


Answer = Callable[[Request, Problem], Response]


def install(
    app: FastAPI, page: Callable[[Problem], Response], sign_in: Callable[[Request], Response]
) -> None:
    """Answer every error with a problem document, or with `page` where a browser asks for a page.

    Parameters
    ----------
    sign_in : callable
        Answers a page's request of somebody who is not signed in.
    """

    def answer(request: Request, found: Problem, headers: Mapping[str, str] | None = None) -> Response:
        if _wants_page(request):
            return page(found)
        content = found.model_dump(exclude_defaults=True)
        return JSONResponse(content, found.status, dict(headers or {}), media_type=MEDIA_TYPE)

    app.state.answer = answer  # for what is refused before it comes here

    @app.exception_handler(ProblemError)
    def _own(request: Request, error: ProblemError) -> Response:
        if error.problem.status == HTTPStatus.UNAUTHORIZED and _wants_page(request):
            return sign_in(request)
        return answer(request, error.problem, error.headers)

    @app.exception_handler(AccountError)
    @app.exception_handler(UnknownStudyError)
    def _known(request: Request, error: TriageError) -> Response:
        return answer(request, account(error) if isinstance(error, AccountError) else unknown_study())

    def _says_itself(request: Request, error: Exception) -> Response:
        return answer(request, told(cast("TriageError", error)))

    for kind in _TOLD:
        app.add_exception_handler(kind, _says_itself)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, _invalid_problem(error))

    @app.exception_handler(HTTPException)
    def _standard(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code, detail, remedy = _STANDARD.get(
            error.status_code, ("refused", f"{status.description or status.phrase}.", "See /openapi.json.")
        )
        return answer(request, problem(status, code, detail, remedy), error.headers)

    _install_faults_of_ours(app, answer)


def _install_faults_of_ours(app: FastAPI, answer: Answer) -> None:
    @app.exception_handler(DatabaseError)
    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(PoolTimeoutError)
    def _database(request: Request, _: Exception) -> Response:
        return answer(request, database_down())

    @app.exception_handler(Exception)
    def _defect(request: Request, _: Exception) -> Response:
        # The server logs the traceback; the caller learns that it is not their fault.
        return answer(
            request,
            problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "defect",
                "Vigil could not answer; this is a defect.",
                "Try again; if it stays, report the log lines of this minute.",
            ),
        )


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def database_down() -> Problem:
    """The database does not answer."""
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "database-unavailable",
        "The database does not answer. Studies are still received.",
        "Check that PostgreSQL runs and that VIGIL_DATABASE_URL is right.",
    )


def _place(item: Mapping[str, Any]) -> Sequence[object]:
    """Where something is wrong, in our own names: the name of a field nobody knows is the caller's text."""
    place: Sequence[object] = item["loc"]
    return place[:-1][:2] if item["type"] == "extra_forbidden" else place[:2]


def _invalid_problem(error: RequestValidationError) -> Problem:
    faults = [
        Fault(where=".".join(str(part) for part in _place(item)), problem=str(item["msg"]))
        for item in error.errors()
    ]
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-request",
        "; ".join(f"{fault.where}: {fault.problem}" for fault in faults),
        "Correct the named parts; see /openapi.json.",
        faults,
    )
