"""``GET /api/v1/studies/{key}``: one study, and the frames of its heatmap."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath
from fastapi.responses import Response

from dicom_node.errors import UnreadableInstanceError
from dicom_node.picture import encode_png, read_frame, shrink
from service.access import Permission
from service.api import schemas
from service.api.callers import Viewer, require
from service.api.dependencies import Key, PartsOf, refuse_unknown_parameters
from service.api.problems import ProblemError
from service.errors import StorageError
from service.store import looks
from service.store.detail import study_detail
from service.store.pictures import picture_of

router = APIRouter(
    prefix="/api/v1/studies",
    tags=["studies"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

MOST_FRAMES = 100_000
SMALL = 192  # pixels: what a list shows, on a screen of two pixels to the point


@router.get("/{key}")
def read_study(parts: PartsOf, caller: Viewer, key: Key) -> schemas.Study:
    """One study: revisions, scores, regions, series, results, deliveries and timeline."""
    with parts.store.transaction() as session:
        found = study_detail(
            session,
            key,
            longest_unread_s=parts.settings.longest_unread_s,
            masking=parts.settings.masking,
        )
        looks.viewed(session, key, actor=caller.name)
    return schemas.Study.model_validate(
        {
            "disclaimer": parts.disclaimer,
            "at": datetime.now(UTC),
            "row": found.row,
            "ranked": found.ranked,
            "completed_at": found.completed_at,
            "completed_by": found.completed_by,
            "instances": found.instances,
            "bytes": found.bytes,
            "bytes_are": found.bytes_are,
            "deleted_at": found.deleted_at,
            "hold": found.hold,
            "waived": found.waived,
            "revisions": found.revisions,
            "timeline": found.timeline,
            "stages": found.stages,
        }
    )


@router.get(
    "/{key}/pictures/{index}.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "One frame, 8-bit RGB."}},
)
def read_picture(
    parts: PartsOf,
    caller: Viewer,
    key: Key,
    index: Annotated[int, InPath(ge=0, le=MOST_FRAMES)],
    size: Annotated[Literal["full", "small"], Query(description="small: for a list.")] = "full",
) -> Response:
    """One frame of the stored heatmap, from 0. Only a scored study has any."""
    with parts.store.transaction() as session:
        stored = picture_of(session, key)
        if stored is not None:
            kind = looks.THUMBNAIL if size == "small" else None
            looks.viewed(session, key, actor=caller.name, kind=kind)
    if stored is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "no-picture",
            "This study has no heatmap.",
            "Read the study first: only a scored one has pictures.",
        )
    try:
        with parts.pictures.local(stored.path, stored.sha256, stored.bytes) as file:
            frame = read_frame(file, index)
    except IndexError as error:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "no-frame",
            "The heatmap has no such frame.",
            "The study's `pictures` says how many there are; the first is 0.",
        ) from error
    except (OSError, StorageError, UnreadableInstanceError) as error:
        raise _missing() from error
    shown = frame if size == "full" else shrink(frame, SMALL)
    return Response(encode_png(shown), media_type="image/png")


def _missing() -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        "picture-unavailable",
        "The stored heatmap cannot be read.",
        "Look for it in the archive it was delivered to, or run `vigil studies replay` with the key.",
    )
