"""``/dicom-web/workitems``: UPS-RS (PS3.18 11). Vigil makes work items; others search, claim and end them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from dicom_node.identity import is_uid
from service.access import Caller, Permission
from service.api.callers import require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.dicomweb_documents import value_in
from service.api.dicomweb_parts import JSON_TYPE, PREFIX, Aet, Reader, Uid, base_of
from service.api.problems import ProblemError
from service.api.workitem_documents import document_of
from service.store import audit, subscriptions, work, workitems
from service.store.search import Attribute, BadSearchError
from service.store.work import TransactionUidError, WorkitemStateError
from service.store.workitems import MATCHED, UnknownWorkitemError, WorkState

ALL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"
MOST_ROWS = 500
LARGEST_OFFSET = 10_000_000
CONTROLS = frozenset({"limit", "offset", "includefield", "fuzzymatching"})

router = APIRouter(prefix=PREFIX, tags=["workitems"])
DOCUMENTS: dict[int | str, dict[str, object]] = {
    200: {"description": "Work items, as DICOM JSON.", "content": {JSON_TYPE: {}}},
    204: {"description": "Nothing matches."},
}

Claimant = Annotated[Caller, Depends(require(Permission.CLAIM))]
Sent = Annotated[Any, Body(media_type=JSON_TYPE)]
WORKITEM = "/workitems/{workitem}"
SUBSCRIBER = WORKITEM + "/subscribers/{aet}"
STRICT = [Depends(refuse_unknown_parameters)]


@router.get("/workitems", response_class=JSONResponse, responses=DOCUMENTS)
def search_workitems(parts: PartsOf, caller: Reader, request: Request) -> Response:
    """Work items that match, in the order of the worklist."""
    given = request.query_params
    try:
        limit = min(_number(given.get("limit"), MOST_ROWS), MOST_ROWS)
        with parts.store.transaction() as session:
            work.follow(session)
            found = workitems.find(
                session,
                _matches(request),
                limit=limit,
                offset=_number(given.get("offset"), 0),
                cutoff=datetime.now(UTC) - timedelta(seconds=parts.settings.longest_unread_s),
            )
            audit.append(session, "workitem.searched", actor=caller.name, found=len(found.found))
    except BadSearchError as error:
        raise _bad(str(error)) from None
    headers = (
        {"Warning": f'299 vigil "There are {found.remaining} additional results that can be requested."'}
        if found.remaining
        else {}
    )
    if not found.found:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    base = base_of(request)
    documents = [document_of(item, base=base, disclaimer=parts.disclaimer) for item in found.found]
    return JSONResponse(documents, headers=headers, media_type=JSON_TYPE)


@router.get(WORKITEM, response_class=JSONResponse, responses={200: DOCUMENTS[200]}, dependencies=STRICT)
def retrieve_workitem(parts: PartsOf, caller: Reader, request: Request, workitem: Uid) -> Response:
    """One work item. Its Transaction UID is never told."""
    with _told(), parts.store.transaction() as session:
        item = workitems.get(session, workitem)
        audit.append(session, "workitem.retrieved", actor=caller.name, study_key=item.study_key)
    document = document_of(item, base=base_of(request), disclaimer=parts.disclaimer)
    return JSONResponse([document], media_type=JSON_TYPE)


@router.put(WORKITEM + "/state", response_class=Response, dependencies=STRICT)
def change_state(parts: PartsOf, caller: Claimant, workitem: Uid, sent: Sent) -> Response:
    """Claim a work item under a Transaction UID, or complete or cancel it under the same."""
    document = _one(sent)
    wanted, lock = value_in(document, "00741000"), value_in(document, "00081195")
    if not isinstance(wanted, str) or wanted not in {WorkState.IN_PROGRESS, *workitems.ENDS}:
        raise _bad("ProcedureStepState is none of IN PROGRESS, COMPLETED and CANCELED.")
    state = WorkState(wanted)
    with _told(), parts.store.transaction() as session:
        is_changed = work.change_state(session, workitem, state, _lock(lock), actor=caller.name)
    if not is_changed:
        warning = f'299 vigil "The UPS is already in the requested state of {state.value}."'
        return Response(headers={"Warning": warning})
    return Response()


@router.post(WORKITEM, response_class=Response)
def update_workitem(
    parts: PartsOf, caller: Claimant, request: Request, workitem: Uid, sent: Sent
) -> Response:
    """Store the progress of a claimed work item. Nothing else of it is a performer's to change."""
    document = _one(sent)
    progress = value_in(document, "00741002")
    if (
        not isinstance(progress, dict)
        or set(document) - {"00741002", "00081195"}
        or set(progress) - {"00741004", "00741006"}
    ):
        raise _bad("Only the progress (0074,1004) and its description (0074,1006) can be updated.")
    lock = request.query_params.get("transaction-uid") or value_in(document, "00081195")
    with _told(), parts.store.transaction() as session:
        work.note_progress(
            session,
            workitem,
            _lock(lock),
            percent=_percent(value_in(progress, "00741004")),
            words=_words(value_in(progress, "00741006")),
            actor=caller.name,
        )
    return Response()


@router.post(
    WORKITEM + "/cancelrequest", response_class=Response, status_code=HTTPStatus.ACCEPTED, dependencies=STRICT
)
def request_cancel(parts: PartsOf, caller: Claimant, workitem: Uid, sent: Sent = None) -> Response:
    """Cancel a work item that nobody has claimed, or tell its performer to give it up."""
    reason = _words(value_in(_one(sent), "00741238")) if sent else ""
    with _told(), parts.store.transaction() as session:
        work.request_cancel(session, workitem, reason, actor=caller.name)
    return Response(status_code=HTTPStatus.ACCEPTED)


@router.post(SUBSCRIBER, response_class=Response, status_code=HTTPStatus.CREATED, dependencies=STRICT)
def subscribe(
    parts: PartsOf,
    caller: Reader,
    request: Request,
    workitem: Uid,
    aet: Aet,
    deletionlock: Annotated[bool, Query()] = False,
) -> Response:
    """Have an AE title told of a work item, or of all. No deletion locks: nothing is deleted early."""
    if workitem == FILTERED or deletionlock:
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "not-offered",
            "There are neither filtered subscriptions nor deletion locks here.",
            f"Subscribe to single work items, or to all with {ALL}.",
        )
    with _told(), parts.store.transaction() as session:
        subscriptions.subscribe(session, aet, None if workitem == ALL else workitem, actor=caller.name)
    channel = base_of(request).replace("http", "ws", 1)
    return Response(
        status_code=HTTPStatus.CREATED, headers={"Content-Location": f"{channel}/subscribers/{aet}"}
    )


@router.delete(SUBSCRIBER, response_class=Response, dependencies=STRICT)
def unsubscribe(parts: PartsOf, caller: Reader, workitem: Uid, aet: Aet) -> Response:
    """Have an AE title told no more."""
    with _told(), parts.store.transaction() as session:
        subscriptions.unsubscribe(session, aet, None if workitem == ALL else workitem, actor=caller.name)
    return Response()


@router.post(SUBSCRIBER + "/suspend", response_class=Response, dependencies=STRICT)
def suspend(parts: PartsOf, caller: Reader, workitem: Uid, aet: Aet) -> Response:
    """End the subscription to what is new; those to single work items stay."""
    if workitem != ALL:
        raise _bad("Only the subscription to all work items can be suspended.")
    with parts.store.transaction() as session:
        subscriptions.suspend(session, aet, actor=caller.name)
    return Response()


@contextmanager
def _told() -> Iterator[None]:
    """Answer the store's errors as the standard counts them (PS3.18 tables 11.5.3-1 to 11.8.3-1)."""
    try:
        yield
    except UnknownWorkitemError as error:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, "unknown-workitem", "There is no such work item.", str(error)
        ) from None
    except TransactionUidError as error:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "transaction-uid", str(error), "Send the one that it was claimed with."
        ) from None
    except WorkitemStateError as error:
        raise ProblemError(
            HTTPStatus.CONFLICT, "workitem-state", str(error), "Only one performer has it, from claim to end."
        ) from None


def _matches(request: Request) -> dict[Attribute, str]:
    matches: dict[Attribute, str] = {}
    for name, value in request.query_params.multi_items():
        if name in CONTROLS:
            continue
        attribute = MATCHED.get(name) or MATCHED.get(name.upper())
        if attribute is None or attribute in matches:
            raise _bad("The query names an attribute that no work item is searched by, or one twice.")
        matches[attribute] = value
    return matches


def _one(sent: Any) -> dict[str, Any]:
    """Data set that was sent, alone or in a list of one."""
    document = sent[0] if isinstance(sent, list) and len(sent) == 1 else sent
    if not isinstance(document, dict):
        raise _bad("The body is not one data set as DICOM JSON.")
    return document


def _lock(value: Any) -> str:
    if not isinstance(value, str) or not is_uid(value):
        raise _bad("The Transaction UID is missing, or is no UID.")
    return value


def _percent(value: Any) -> float | None:
    if value is None:
        return None
    try:
        percent = float(value)
    except (TypeError, ValueError):
        percent = math.nan
    if not 0 <= percent <= 100:  # noqa: PLR2004 - percent
        raise _bad("The progress is no number from 0 to 100.")
    return percent


def _words(value: Any) -> str:
    text = "" if value is None else str(value)
    return "".join(character for character in text if character.isprintable())[: work.LONGEST_TEXT]


def _number(text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_OFFSET))):
        raise _bad("limit or offset is no number from 0.")
    return int(text)


def _bad(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, "bad-workitem-request", detail, "See docs/dicomweb.md.")
