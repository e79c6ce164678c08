"""``POST /dicom-web/studies``: STOW-RS (PS3.18 10.5). Off unless `VIGIL_ACCEPT_STOW` is set.

The one route that is asynchronous: it takes the message as it comes, a piece at a time, and writes in a
thread. The answer lists UIDs because the standard demands them; nothing of it is logged.
"""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from dicom_node.errors import MalformedMessageError
from dicom_node.identity import load_or_make_secret
from dicom_node.multipart import boundary_of
from dicom_node.services.landing import OUT_OF_RESOURCES, Landed, Landing
from dicom_node.spool import Spool
from service.access import Permission
from service.api.callers import require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.problems import ProblemError
from service.settings import Settings

JSON_TYPE = "application/dicom+json"
SENDER = "STOW-RS"
PIECE = 256 * 1024  # bytes handed over at once
MB = 1024 * 1024

router = APIRouter(
    prefix="/dicom-web",
    tags=["dicomweb"],
    dependencies=[Depends(require(Permission.SEND)), Depends(refuse_unknown_parameters)],
)


@router.post("/studies", response_class=JSONResponse)
async def store_instances(parts: PartsOf, request: Request) -> JSONResponse:
    """Take instances of any study: multipart/related with parts of application/dicom."""
    return await _store(parts.settings, request, None)


@router.post("/studies/{study}", response_class=JSONResponse)
async def store_instances_of_study(
    parts: PartsOf, request: Request, study: Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]
) -> JSONResponse:
    """Take instances of one study; those of another fail."""
    return await _store(parts.settings, request, study)


async def _store(settings: Settings, request: Request, study: str | None) -> JSONResponse:
    if not settings.accept_stow:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "stow-is-off",
            "This server does not take instances over HTTP.",
            "Send them by C-STORE, or set VIGIL_ACCEPT_STOW.",
        )
    try:
        boundary = boundary_of(request.headers.get("content-type", ""))
    except MalformedMessageError:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not-multipart",
            "The message is not multipart/related with a boundary.",
            'Send multipart/related; type="application/dicom" with one instance a part.',
        ) from None
    spool = await run_in_threadpool(_open_spool, settings)
    try:
        with Landing(
            spool,
            boundary,
            source=SENDER,
            max_instance_bytes=settings.max_instance_mb * MB,
            study_uid=study,
        ) as landing:
            piece = bytearray()
            async for chunk in request.stream():
                piece += chunk
                if len(piece) >= PIECE:
                    await run_in_threadpool(landing.feed, bytes(piece))
                    piece.clear()
            await run_in_threadpool(landing.feed, bytes(piece))
            landed = landing.close()
    except MalformedMessageError as error:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "malformed-message",
            str(error),
            "Send the message again; instances that came whole are kept.",
        ) from None
    return JSONResponse(_document(landed), _status(landed), media_type=JSON_TYPE)


def _open_spool(settings: Settings) -> Spool:
    return Spool(
        settings.spool_folder,
        load_or_make_secret(settings.key_path),
        free_mark_bytes=settings.free_mark_mb * MB,
    )


def _status(landed: list[Landed]) -> HTTPStatus:
    """Status of the whole (PS3.18 table 10.5.3-1)."""
    failures = [one.failure for one in landed if one.failure is not None]
    if not landed:
        return HTTPStatus.BAD_REQUEST
    if not failures:
        return HTTPStatus.OK
    if len(failures) < len(landed):
        return HTTPStatus.ACCEPTED
    is_full = all(failure == OUT_OF_RESOURCES for failure in failures)
    return HTTPStatus.SERVICE_UNAVAILABLE if is_full else HTTPStatus.CONFLICT


def _document(landed: list[Landed]) -> dict[str, Any]:
    """Store Instances Response as DICOM JSON (PS3.18 I.2)."""
    kept = [_item(one) for one in landed if one.failure is None]
    failed = [
        _item(one) | {"00081197": {"vr": "US", "Value": [one.failure]}}
        for one in landed
        if one.failure is not None
    ]
    sequences = {"00081199": kept, "00081198": failed}
    return {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def _item(landed: Landed) -> dict[str, Any]:
    values = {"00081150": landed.sop_class_uid, "00081155": landed.sop_instance_uid}
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in values.items() if uid}
