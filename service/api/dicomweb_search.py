"""``GET /dicom-web/studies`` and its like: QIDO-RS (PS3.18 10.6) over what was received and made of it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydicom.datadict import tag_for_keyword

from dicom_node.web.media import NotAcceptableError, accepted, choose
from service.access import Caller
from service.api.dependencies import Parts, PartsOf
from service.api.dicomweb_documents import element, name_element
from service.api.dicomweb_parts import JSON_TYPE, PREFIX, Reader, Uid, base_of, key_of, not_acceptable
from service.api.problems import ProblemError
from service.store import audit
from service.store.search import (
    BY_NAME,
    SERIES_UID,
    SOP_INSTANCE_UID,
    STUDY_UID,
    Attribute,
    BadSearchError,
    Level,
    Match,
    Search,
    search,
)

MOST_ROWS = {Level.STUDY: 1000, Level.SERIES: 5000, Level.INSTANCE: 5000}  # of one answer
MOST_DIGITS = 8  # of a limit or an offset
CONTROLS = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept"})
NO_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."

router = APIRouter(
    prefix=PREFIX,
    tags=["dicomweb"],
    responses={
        200: {"description": "What matches.", "content": {JSON_TYPE: {}}},
        204: {"description": "Nothing matches."},
    },
)


@router.get("/studies", response_class=JSONResponse)
def search_studies(parts: PartsOf, caller: Reader, request: Request) -> Response:
    """Studies that match the attributes in the query."""
    return _answer(parts, caller, request, Level.STUDY, {})


@router.get("/series", response_class=JSONResponse)
def search_series(parts: PartsOf, caller: Reader, request: Request) -> Response:
    """Series of any study."""
    return _answer(parts, caller, request, Level.SERIES, {})


@router.get("/instances", response_class=JSONResponse)
def search_instances(parts: PartsOf, caller: Reader, request: Request) -> Response:
    """Instances of any study."""
    return _answer(parts, caller, request, Level.INSTANCE, {})


@router.get("/studies/{study}/series", response_class=JSONResponse)
def search_series_of_study(parts: PartsOf, caller: Reader, request: Request, study: Uid) -> Response:
    """Series of one study."""
    return _answer(parts, caller, request, Level.SERIES, {STUDY_UID: study})


@router.get("/studies/{study}/instances", response_class=JSONResponse)
def search_instances_of_study(parts: PartsOf, caller: Reader, request: Request, study: Uid) -> Response:
    """Instances of one study."""
    return _answer(parts, caller, request, Level.INSTANCE, {STUDY_UID: study})


@router.get("/studies/{study}/series/{series}/instances", response_class=JSONResponse)
def search_instances_of_series(
    parts: PartsOf, caller: Reader, request: Request, study: Uid, series: Uid
) -> Response:
    """Instances of one series."""
    return _answer(parts, caller, request, Level.INSTANCE, {STUDY_UID: study, SERIES_UID: series})


def _answer(
    parts: Parts, caller: Caller, request: Request, level: Level, within: Mapping[Attribute, str]
) -> Response:
    given = request.query_params
    try:
        choose(
            accepted(given.get("accept") or request.headers.get("accept", "")),
            (JSON_TYPE, "application/json"),
        )
    except NotAcceptableError as error:
        raise not_acceptable(error) from None
    warnings = _warnings(request, level)
    wanted = Search(
        level=level,
        matches={**_matches(request, level), **within},
        limit=min(_number(request, "limit", MOST_ROWS[level]), MOST_ROWS[level]),
        offset=_number(request, "offset", 0),
    )
    try:
        with parts.store.transaction() as session:
            matches = search(session, wanted)
            audit.append(
                session,
                "dicomweb.searched",
                actor=caller.name,
                study_key=key_of(parts, within[STUDY_UID]) if STUDY_UID in within else None,
                level=level.name.lower(),
                by=sorted(one.keyword for one in wanted.matches),
                found=len(matches.found),
            )
    except BadSearchError as error:
        raise _bad(str(error)) from None
    if matches.remaining:
        count = f"{'' if matches.is_remaining_exact else 'more than '}{matches.remaining}"
        warnings.append(f"There are {count} additional results that can be requested.")
    headers = {"Warning": ", ".join(f'299 vigil "{text}"' for text in warnings)} if warnings else {}
    if not matches.found:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    base = base_of(request)
    return JSONResponse(
        [_document(match, level, base) for match in matches.found], headers=headers, media_type=JSON_TYPE
    )


def _matches(request: Request, level: Level) -> dict[Attribute, str]:
    """Attributes to match; one that this server cannot match is refused, for too much would be found."""
    matches: dict[Attribute, str] = {}
    for name, value in request.query_params.multi_items():
        if name in CONTROLS:
            continue
        attribute = BY_NAME.get(name if not _is_tag(name) else name.upper())
        if attribute is None:
            raise _bad("The query names an attribute that nothing is searched by here.")
        if attribute.level > level:
            raise _bad(f"{attribute.keyword} belongs to a level below the one searched.")
        if attribute in matches:
            raise _bad(f"{attribute.keyword} is given twice.")
        matches[attribute] = value
    return matches


def _warnings(request: Request, level: Level) -> list[str]:
    warnings = []
    if request.query_params.get("fuzzymatching", "false").lower() == "true":
        warnings.append(NO_FUZZY)
    for name in _fields(request):
        known = BY_NAME.get(name.upper() if _is_tag(name) else name)
        if name == "all" or (known is not None and known.level <= level):
            continue
        if known is None and not _is_tag(name) and tag_for_keyword(name) is None:
            raise _bad("includefield names no attribute of DICOM.")
        warnings.append("Some of includefield is not kept for searches; read the metadata for it.")
        break
    return warnings


def _fields(request: Request) -> list[str]:
    given = request.query_params.getlist("includefield")
    return [name for one in given for name in one.split(",") if name]


def _is_tag(name: str) -> bool:
    return len(name) == 8 and all(character in "0123456789abcdefABCDEF" for character in name)  # noqa: PLR2004


def _number(request: Request, name: str, otherwise: int) -> int:
    text = request.query_params.get(name, str(otherwise))
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        raise _bad(f"{name} is no number from 0.")
    return int(text)


def _document(match: Match, level: Level, base: str) -> dict[str, Any]:
    """One result as DICOM JSON (PS3.18 tables 10.6.3-3 to 5)."""
    document = {
        one.tag: name_element(str(value)) if one.vr == "PN" else element(one.vr, value)
        for one, value in match.values.items()
    }
    document["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    document["00081190"] = {"vr": "UR", "Value": [_address(match, level, base)]}
    return dict(sorted(document.items()))


def _address(match: Match, level: Level, base: str) -> str:
    steps = (("studies", STUDY_UID), ("series", SERIES_UID), ("instances", SOP_INSTANCE_UID))
    return base + "".join(
        f"/{name}/{quote(str(match.values[attribute]))}" for name, attribute in steps[: level + 1]
    )


def _bad(detail: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.BAD_REQUEST, "bad-search", detail, "See docs/dicomweb.md for what is searched by, and how."
    )
