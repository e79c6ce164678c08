"""``GET /api/v1/studies/{key}/volume.nii.gz`` and ``map.nii.gz``: a scored study in three dimensions.

Two volumes on one grid, compressed NIfTI-1. Neither holds a name, an id or a UID; of a head they show what
the images show, so who reads them needs what the pictures need.
"""

import hashlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.responses import Response, StreamingResponse

from service.access import Permission
from service.api.callers import Viewer, require
from service.api.dependencies import Key, PartsOf, refuse_unknown_parameters
from service.api.problems import ProblemError
from service.errors import StorageError, ViewerBusyError
from service.nifti import MEDIA_TYPE
from service.store import jobs, looks, maps
from service.store.maps import Viewed
from service.volumes import MOST_VOXELS

MOST_BYTES = 1 << 26  # of a map on disk, which is read as a whole to be checked
RETRY_S = 5

router = APIRouter(
    prefix="/api/v1/studies",
    tags=["studies"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

_ANSWERS: dict[int | str, dict[str, object]] = {
    200: {"content": {MEDIA_TYPE: {}}, "description": "Compressed NIfTI-1, millimetres, RAS."},
    304: {"description": "The one whose ETag was sent."},
}
IfNoneMatch = Annotated[str | None, Header(max_length=1000)]


@router.get("/{key}/volume.nii.gz", response_class=Response, responses=_ANSWERS)
def read_volume(parts: PartsOf, caller: Viewer, key: Key, if_none_match: IfNoneMatch = None) -> Response:
    """The scored series as one volume, 16 bits, made from what was received."""
    with parts.store.transaction() as session:
        found = _viewed(maps.viewed(session, key))
        looks.viewed(session, key, actor=caller.name)
        job = jobs.as_read(session, found.score_id)
    tag = hashlib.sha256(f"{found.content_hash} {found.series}".encode()).hexdigest()
    if _is_known(if_none_match, tag):
        return _unchanged(tag)
    try:
        made = parts.volumes.of(job, found.series)
    except ViewerBusyError as error:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "viewer-busy",
            "Others look at large volumes.",
            f"Try again in {RETRY_S} s; the pictures of the study are there meanwhile.",
            {"Retry-After": str(RETRY_S)},
        ) from error
    except StorageError as error:
        raise _unavailable() from error
    return _answer(made.parts(), made.size, tag)


@router.get("/{key}/map.nii.gz", response_class=Response, responses=_ANSWERS)
def read_map(parts: PartsOf, caller: Viewer, key: Key, if_none_match: IfNoneMatch = None) -> Response:
    """The anomaly map on the same grid, 8 bits, 0 to 1."""
    with parts.store.transaction() as session:
        found = _viewed(maps.viewed(session, key))
        looks.viewed(session, key, actor=caller.name)
    stored = found.map
    if _is_known(if_none_match, stored.sha256):
        return _unchanged(stored.sha256)
    try:
        with (
            parts.pictures.local(stored.path, stored.sha256, stored.bytes) as file,
            file.open("rb") as source,
        ):
            content = source.read(stored.bytes + 1)
    except (OSError, StorageError) as error:
        raise _unavailable() from error
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise _unavailable()
    return _answer([content], stored.bytes, stored.sha256)


def _viewed(found: Viewed | None) -> Viewed:
    if found is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "no-volume",
            "This study has no volume with a heatmap.",
            "Read the study first: only one that was scored as a stack of slices has it.",
        )
    if found.map.voxels > MOST_VOXELS or found.map.bytes > MOST_BYTES:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "volume-too-large",
            "The series is too large to be shown as a volume.",
            "Use the pictures of the study, or a workstation.",
        )
    return found


def _unavailable() -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        "volume-unavailable",
        "The images or the map of the study cannot be read.",
        "The pictures of the study may still be there; have the study sent again to see its volume.",
    )


def _is_known(sent: str | None, tag: str) -> bool:
    return sent is not None and (sent.strip() == "*" or f'"{tag}"' in sent)


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": f'"{tag}"'}


def _unchanged(tag: str) -> Response:
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(tag))


def _answer(parts: Iterable[bytes], size: int, tag: str) -> Response:
    return StreamingResponse(
        parts, media_type=MEDIA_TYPE, headers=_headers(tag) | {"Content-Length": str(size)}
    )
