"""``GET /dicom-web/studies/{study}`` and below: WADO-RS (PS3.18 10.4). Everything is sent as it is stored.

Answers are streams: one instance, or one frame, is in memory at a time. What cannot be sent whole breaks off
before its last delimiter, so that no caller takes it for whole.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Annotated

import structlog
from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import Response, StreamingResponse

from dicom_node.errors import UnreadableInstanceError
from dicom_node.multipart import DICOM_TYPE
from dicom_node.web.frames import CHUNK, Pixels, locate, pieces
from dicom_node.web.media import (
    FRAME_TYPES,
    OCTETS,
    NotAcceptableError,
    Part,
    Range,
    choose,
    choose_frames,
    choose_instances,
    multipart,
    multipart_type,
)
from dicom_node.web.metadata import TRAIL, encode_metadata, read_bulk, read_metadata
from service.access import Caller
from service.api.dependencies import Parts, PartsOf
from service.api.dicomweb_parts import (
    INSTANCE,
    JSON_TYPE,
    MOST_FRAMES,
    PREFIX,
    SERIES,
    STUDY,
    Frames,
    Reader,
    Uid,
    accepted_of,
    base_of,
    found_of,
    indices_of,
    no_frame,
    not_acceptable,
    path_of,
    unavailable,
    undecodable,
    write_down,
)
from service.api.problems import ProblemError
from service.errors import StorageError
from service.holdings import Holdings
from service.store.held import Held

log = structlog.get_logger(__name__)
router = APIRouter(prefix=PREFIX, tags=["dicomweb"])


@router.get(STUDY, response_class=StreamingResponse)
def fetch_study(parts: PartsOf, caller: Reader, request: Request, study: Uid) -> Response:
    """Instances of a study as they are stored: parts of application/dicom."""
    return _send(parts, caller, request, found_of(parts, study))


@router.get(SERIES, response_class=StreamingResponse)
def fetch_series(parts: PartsOf, caller: Reader, request: Request, study: Uid, series: Uid) -> Response:
    """Instances of a series as they are stored."""
    return _send(parts, caller, request, found_of(parts, study, series))


@router.get(INSTANCE, response_class=StreamingResponse)
def fetch_instance(
    parts: PartsOf, caller: Reader, request: Request, study: Uid, series: Uid, instance: Uid
) -> Response:
    """One instance as it is stored, in a message of one part or by itself."""
    return _send(parts, caller, request, found_of(parts, study, series, instance), is_single=True)


@router.get(STUDY + "/metadata", response_class=StreamingResponse)
def fetch_metadata_of_study(parts: PartsOf, caller: Reader, request: Request, study: Uid) -> Response:
    """Attributes of a study's instances as DICOM JSON; long values are named by an address."""
    return _describe(parts, caller, request, study, found_of(parts, study))


@router.get(SERIES + "/metadata", response_class=StreamingResponse)
def fetch_metadata_of_series(
    parts: PartsOf, caller: Reader, request: Request, study: Uid, series: Uid
) -> Response:
    """Attributes of a series' instances."""
    return _describe(parts, caller, request, study, found_of(parts, study, series))


@router.get(INSTANCE + "/metadata", response_class=StreamingResponse)
def fetch_metadata_of_instance(
    parts: PartsOf, caller: Reader, request: Request, study: Uid, series: Uid, instance: Uid
) -> Response:
    """Attributes of one instance."""
    return _describe(parts, caller, request, study, found_of(parts, study, series, instance))


@router.get(INSTANCE + "/frames/{frames}", response_class=StreamingResponse)
def fetch_frames(
    parts: PartsOf,
    caller: Reader,
    request: Request,
    study: Uid,
    series: Uid,
    instance: Uid,
    frames: Frames,
) -> Response:
    """Frames by their numbers, from 1: compressed ones as they are stored, or decoded where that is asked."""
    (one,) = found_of(parts, study, series, instance)
    indices = indices_of(frames)
    with ExitStack() as stack:
        pixels = _pixels(stack, parts.holdings, one)
        if max(indices) >= pixels.frames:
            raise no_frame()
        try:
            wanted, is_decoded = choose_frames(
                accepted_of(request), one.transfer_syntax_uid, is_single=len(indices) == 1
            )
        except NotAcceptableError as error:
            raise not_acceptable(error) from None
        write_down(parts, caller, one.study_key, "frames")
        is_decoded = is_decoded or not pixels.is_readable_in_place
        kind = _frame_kind(pixels, wanted, is_decoded=is_decoded)
        sent = _frames(stack.pop_all(), pixels, indices, kind, is_decoded=is_decoded)
    return _message(sent, kind, wanted, is_single=len(indices) == 1)


@router.get(INSTANCE + "/bulkdata/{trail:path}", response_class=StreamingResponse)
def fetch_bulk_data(
    parts: PartsOf,
    caller: Reader,
    request: Request,
    study: Uid,
    series: Uid,
    instance: Uid,
    trail: Annotated[str, InPath(pattern=f"^{TRAIL.pattern}$")],
) -> Response:
    """One long value that the metadata named."""
    (one,) = found_of(parts, study, series, instance)
    with ExitStack() as stack:
        path = path_of(stack, parts.holdings, one)
        if trail.startswith("7FE0"):
            pixels = _located(path)
            if pixels.is_encapsulated or not pixels.is_readable_in_place:
                every = ",".join(str(number + 1) for number in range(min(pixels.frames, MOST_FRAMES)))
                return fetch_frames(parts, caller, request, study, series, instance, every)
            content: Iterable[bytes] = _closing(stack.pop_all(), pieces(pixels))
        else:
            content = [_bulk(path, trail)]
    write_down(parts, caller, one.study_key, "bulkdata")
    try:
        wanted, _ = choose_frames(accepted_of(request), "", is_single=True)
    except NotAcceptableError as error:
        raise not_acceptable(error) from None
    return _message(iter([Part(kind=OCTETS, content=content)]), OCTETS, wanted, is_single=True)


def _send(
    parts: Parts, caller: Caller, request: Request, found: Sequence[Held], *, is_single: bool = False
) -> Response:
    try:
        wanted = choose_instances(
            accepted_of(request), (one.transfer_syntax_uid for one in found), is_single=is_single
        )
    except NotAcceptableError as error:
        raise not_acceptable(error) from None
    write_down(parts, caller, found[0].study_key, "instances")
    sent = (
        Part(
            kind=f"{DICOM_TYPE}; transfer-syntax={one.transfer_syntax_uid}",
            content=_file(parts.holdings, one),
        )
        for one in found
    )
    return _message(sent, DICOM_TYPE, wanted, is_single=is_single)


def _describe(parts: Parts, caller: Caller, request: Request, study: str, found: Sequence[Held]) -> Response:
    try:
        choose(accepted_of(request), (JSON_TYPE, "application/json"))
    except NotAcceptableError as error:
        raise not_acceptable(error) from None
    write_down(parts, caller, found[0].study_key, "metadata")
    base = f"{base_of(request)}/studies/{study}"
    return StreamingResponse(_begun(_metadata(parts.holdings, found, base)), media_type=JSON_TYPE)


def _message(parts: Iterator[Part], kind: str, wanted: Range, *, is_single: bool) -> Response:
    """Answer with parts, or with the bytes of the only one where the caller wants no parts."""
    if is_single and not wanted.is_multipart and wanted.kind != "*/*":
        (part,) = parts
        return StreamingResponse(_begun(iter(part.content)), media_type=part.kind)
    boundary = secrets.token_hex(16)
    return StreamingResponse(
        _begun(multipart(parts, boundary), ahead=2), media_type=multipart_type(kind, boundary)
    )


def _begun(content: Iterator[bytes], *, ahead: int = 1) -> Iterator[bytes]:
    """Return the same bytes, their beginning made: what cannot be had is told before the answer begins.

    Raises
    ------
    ProblemError
        If the first of what is asked for cannot be had.
    """
    first = []
    try:
        for _ in range(ahead):
            first += [piece for piece in [next(content, None)] if piece is not None]
    except StorageError as error:
        raise unavailable(error) from error
    except UnreadableInstanceError as error:
        raise undecodable(error) from error
    return chain(first, content)


def _file(holdings: Holdings, one: Held) -> Iterator[bytes]:
    """Bytes of an instance, all of them compared with what was received before the first leaves."""
    with holdings.local(one, is_checked=True) as path, path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def _metadata(holdings: Holdings, found: Sequence[Held], base: str) -> Iterator[bytes]:
    """A JSON array, an object at a time; what cannot be read is left out, and told in the log."""
    separator = b"["
    for one in found:
        address = f"{base}/series/{one.series_uid}/instances/{one.sop_instance_uid}/bulkdata"
        try:
            with holdings.local(one) as path:
                document = encode_metadata(read_metadata(path, address=address))
        except (OSError, StorageError, UnreadableInstanceError) as error:
            if len(found) == 1:
                raise
            log.warning("instance left out of metadata", study=one.study_key, reason=type(error).__name__)
            continue
        yield separator + document
        separator = b","
    yield b"]" if separator == b"," else b"[]"


def _frames(
    stack: ExitStack, pixels: Pixels, indices: Sequence[int], kind: str, *, is_decoded: bool
) -> Iterator[Part]:
    with stack:
        for index in indices:
            content = pixels.decoded(index) if is_decoded else pixels.stored(index)
            yield Part(kind=kind, content=[content])


def _frame_kind(pixels: Pixels, wanted: Range, *, is_decoded: bool) -> str:
    """Content-Type of a frame: what the caller asked for, and the transfer syntax that it is in."""
    if is_decoded or not pixels.is_encapsulated:
        return f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.1"
    kind = OCTETS if wanted.kind == OCTETS else FRAME_TYPES.get(pixels.syntax, OCTETS)  # type: ignore[call-overload]
    return f"{kind}; transfer-syntax={pixels.syntax}"


def _pixels(stack: ExitStack, holdings: Holdings, one: Held) -> Pixels:
    return _located(path_of(stack, holdings, one))


def _located(path: Path) -> Pixels:
    try:
        return locate(path)
    except (OSError, UnreadableInstanceError) as error:
        raise undecodable(error) from error


def _bulk(path: Path, trail: str) -> bytes:
    try:
        return read_bulk(path, trail)
    except KeyError:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, "no-value", "The object has no such value.", "Read its metadata again."
        ) from None
    except (OSError, UnreadableInstanceError) as error:
        raise undecodable(error) from error


def _closing(stack: ExitStack, content: Iterator[bytes]) -> Iterator[bytes]:
    with stack:
        yield from content
