"""Rendered frames and thumbnails over DICOMweb (PS3.18 10.4.1.1.3, 10.4.1.1.6). Not for diagnosis."""

from contextlib import ExitStack
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from dicom_node.errors import UnreadableInstanceError
from dicom_node.web.media import NotAcceptableError, choose
from dicom_node.web.rendering import JPEG, PNG, THUMBNAIL, Window, encode, render
from service.access import Caller
from service.api.dependencies import Parts, PartsOf
from service.api.dicomweb_parts import (
    INSTANCE,
    PREFIX,
    SERIES,
    STUDY,
    Frames,
    Reader,
    Uid,
    accepted_of,
    found_of,
    indices_of,
    no_frame,
    not_acceptable,
    path_of,
    undecodable,
    write_down,
)
from service.api.problems import ProblemError
from service.store.held import Held

PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"content": {JPEG: {}, PNG: {}}, "description": "A picture. Not for diagnosis."}
}
LARGEST_SIDE = 8192  # pixels

router = APIRouter(prefix=PREFIX, tags=["dicomweb"])

Box = Annotated[str | None, Query(alias="viewport", pattern=r"^[0-9]{1,4},[0-9]{1,4}$")]
WindowOf = Annotated[str | None, Query(alias="window", max_length=100)]
Quality = Annotated[int, Query(ge=1, le=100)]


@router.get(INSTANCE + "/rendered", response_class=Response, responses=PICTURES)
def fetch_rendered(
    parts: PartsOf,
    caller: Reader,
    request: Request,
    study: Uid,
    series: Uid,
    instance: Uid,
    viewport: Box = None,
    window: WindowOf = None,
    quality: Quality = 90,
) -> Response:
    """First frame of an object as a picture. A window counts as the modality does."""
    one = found_of(parts, study, series, instance)
    return _rendered(parts, caller, request, one, "1", viewport, window, quality)


@router.get(INSTANCE + "/frames/{frames}/rendered", response_class=Response, responses=PICTURES)
def fetch_rendered_frame(
    parts: PartsOf,
    caller: Reader,
    request: Request,
    study: Uid,
    series: Uid,
    instance: Uid,
    frames: Frames,
    viewport: Box = None,
    window: WindowOf = None,
    quality: Quality = 90,
) -> Response:
    """One frame as a picture."""
    one = found_of(parts, study, series, instance)
    return _rendered(parts, caller, request, one, frames, viewport, window, quality)


@router.get(STUDY + "/thumbnail", response_class=Response, responses=PICTURES)
def fetch_thumbnail_of_study(
    parts: PartsOf, caller: Reader, request: Request, study: Uid, viewport: Box = None
) -> Response:
    """Small picture of the middle of a study."""
    return _thumbnail(parts, caller, request, found_of(parts, study), viewport)


@router.get(SERIES + "/thumbnail", response_class=Response, responses=PICTURES)
def fetch_thumbnail_of_series(
    parts: PartsOf, caller: Reader, request: Request, study: Uid, series: Uid, viewport: Box = None
) -> Response:
    """Small picture of the middle of a series."""
    return _thumbnail(parts, caller, request, found_of(parts, study, series), viewport)


@router.get(INSTANCE + "/thumbnail", response_class=Response, responses=PICTURES)
def fetch_thumbnail_of_instance(
    parts: PartsOf,
    caller: Reader,
    request: Request,
    study: Uid,
    series: Uid,
    instance: Uid,
    viewport: Box = None,
) -> Response:
    """Small picture of the middle frame of an object."""
    return _thumbnail(parts, caller, request, found_of(parts, study, series, instance), viewport)


def _rendered(
    parts: Parts,
    caller: Caller,
    request: Request,
    found: tuple[Held, ...],
    frames: str,
    viewport: str | None,
    window: str | None,
    quality: int,
) -> Response:
    indices = indices_of(frames)
    if len(indices) > 1:
        raise _bad("A picture shows one frame.", "Ask for each frame by its own address.")
    kind = _kind(request)
    box = _box(viewport) if viewport else None
    shown = _window(window) if window else None
    write_down(parts, caller, found[0].study_key, "rendered")
    return _picture(parts, found[0], indices[0], kind, box=box, window=shown, quality=quality)


def _thumbnail(
    parts: Parts, caller: Caller, request: Request, found: tuple[Held, ...], viewport: str | None
) -> Response:
    one = _representative(found)
    kind = _kind(request)
    box = _box(viewport) if viewport else THUMBNAIL
    write_down(parts, caller, one.study_key, "thumbnail")
    return _picture(parts, one, one.frames // 2, kind, box=box)


def _picture(
    parts: Parts,
    one: Held,
    index: int,
    kind: str,
    *,
    box: tuple[int, int] | None,
    window: Window | None = None,
    quality: int = 80,
) -> Response:
    with ExitStack() as stack:
        path = path_of(stack, parts.holdings, one)
        try:
            picture = render(path, index, window=window, box=box)
        except IndexError:
            raise no_frame() from None
        except (OSError, UnreadableInstanceError) as error:
            raise undecodable(error) from error
    return Response(encode(picture, kind, quality=quality), media_type=kind)


def _representative(found: tuple[Held, ...]) -> Held:
    """Instance in the middle of the first series with pictures, what was received before what was made."""
    pictures = [one for one in found if one.has_picture]
    if not pictures:
        raise undecodable(UnreadableInstanceError("it has no pixels that make a picture."))
    received = [one for one in pictures if one.result_path is None] or pictures
    series = [one for one in received if one.series_uid == received[0].series_uid]
    return series[len(series) // 2]


def _kind(request: Request) -> str:
    try:
        return choose(accepted_of(request), (JPEG, PNG))
    except NotAcceptableError as error:
        raise not_acceptable(error) from None


def _box(viewport: str) -> tuple[int, int]:
    columns, rows = (int(side) for side in viewport.split(","))
    if not (0 < columns <= LARGEST_SIDE and 0 < rows <= LARGEST_SIDE):
        raise _bad(
            "The viewport has no size.", f"Name columns and rows, 1 to {LARGEST_SIDE}: viewport=512,512."
        )
    return columns, rows


def _window(text: str) -> Window:
    """Centre and width; of the functions only the linear ones are made (PS3.18 8.3.5.1.2)."""
    centre, _, rest = text.partition(",")
    width, _, function = rest.partition(",")
    try:
        window = Window(centre=float(centre), width=float(width))
    except ValueError:
        window = Window(centre=0, width=0)
    if not (1 <= window.width < 1e9 and abs(window.centre) < 1e9) or function.lower() not in {"", "linear"}:  # noqa: PLR2004 - no modality counts so far
        raise _bad(
            "The window is none.", "Name centre and width, as the modality counts: window=40,400,linear."
        )
    return window


def _bad(detail: str, remedy: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, "bad-picture", detail, remedy)
