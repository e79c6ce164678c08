"""What searching and fetching over DICOMweb share: what they are asked for, and what is written down.

The addresses hold UIDs because the standard demands them. No UID leaves for a log, and the audit trail says
who asked for which study, by its key.
"""

from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as InPath

from dicom_node.identity import load_or_make_secret, study_key
from dicom_node.web.media import Range, accepted
from service.access import Caller, Permission
from service.api.callers import require
from service.api.dependencies import Parts
from service.api.problems import ProblemError
from service.errors import StorageAwayError, StorageError
from service.holdings import Holdings
from service.store import looks
from service.store.held import Held, fate, held

PREFIX = "/dicom-web"
JSON_TYPE = "application/dicom+json"
UID = r"^[0-9.]{1,64}$"
MOST_FRAMES = 10_000  # asked for at once
LONGEST_LIST = 100_000  # characters that name them
STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"

Uid = Annotated[str, InPath(pattern=UID)]
Aet = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_.+ -]{1,16}$")]
Frames = Annotated[str, InPath(pattern=r"^[0-9,]+$", max_length=LONGEST_LIST)]
Reader = Annotated[Caller, Depends(require(Permission.IMAGES))]


def key_of(parts: Parts, study_uid: str) -> str:
    """Pseudonym of a study."""
    return study_key(load_or_make_secret(parts.settings.key_path), study_uid)


def base_of(request: Request) -> str:
    """Address of the services as the caller knows it."""
    return f"{str(request.base_url).rstrip('/')}{PREFIX}"


def write_down(parts: Parts, caller: Caller, key: str, kind: str) -> None:
    """Leave an audit row about who fetches what kind of thing of a study, before anything of it leaves."""
    with parts.store.transaction() as session:
        looks.fetched(session, key, kind, actor=caller.name)


def not_acceptable(error: Exception) -> ProblemError:
    """The caller accepts nothing that can be had."""
    return ProblemError(
        HTTPStatus.NOT_ACCEPTABLE,
        "not-acceptable",
        "What is asked for is not held in a form the Accept header names.",
        str(error),
    )


def found_of(
    parts: Parts, study: str, series: str | None = None, instance: str | None = None
) -> tuple[Held, ...]:
    """Instances that an address names, at least one.

    Raises
    ------
    ProblemError
        404 where nothing of that name was ever here, 410 where it was deleted.
    """
    key = key_of(parts, study)
    with parts.store.transaction() as session:
        found = held(session, key, series_uid=series, sop_instance_uid=instance)
        if found:
            return found
        became = fate(session, key, instance)
    if became.is_deleted:
        when = f" on {became.deleted_at.date().isoformat()}" if became.deleted_at else ""
        raise ProblemError(
            HTTPStatus.GONE,
            "deleted",
            f"It was here and was deleted{when}, as the site's rules of retention say.",
            "Fetch it from the archive, or have it sent again.",
        )
    raise ProblemError(
        HTTPStatus.NOT_FOUND,
        "unknown-object",
        "There is no such study, series or instance here.",
        "Search for it first; studies from before an upgrade are found after `vigil db index`.",
    )


def accepted_of(request: Request) -> tuple[Range, ...]:
    """What the caller accepts; a parameter in the address counts before the header (PS3.18 8.3.3.1)."""
    return accepted(request.query_params.get("accept") or request.headers.get("accept", ""))


def indices_of(frames: str) -> list[int]:
    """Frames of a list, from 0.

    Raises
    ------
    ProblemError
        If it is no list of numbers from 1.
    """
    numbers = [int(number) for number in frames.split(",") if 0 < len(number) <= 9]  # noqa: PLR2004 - digits
    if not numbers or len(numbers) != frames.count(",") + 1 or min(numbers) < 1 or len(numbers) > MOST_FRAMES:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "bad-frames",
            "The list of frames is none.",
            f"Name frames by their numbers from 1, divided by commas, at most {MOST_FRAMES}.",
        )
    return [number - 1 for number in numbers]


def path_of(stack: ExitStack, holdings: Holdings, one: Held) -> Path:
    """File of an instance until the stack closes.

    Raises
    ------
    ProblemError
        If it cannot be had.
    """
    try:
        return stack.enter_context(holdings.local(one))
    except StorageError as error:
        raise unavailable(error) from error


def no_frame() -> ProblemError:
    """The object has fewer frames."""
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        "no-frame",
        "The object has no such frame.",
        "Its NumberOfFrames says how many there are; the first is 1.",
    )


def undecodable(error: Exception) -> ProblemError:
    """The object has no pixels, or none that can be decoded here."""
    return ProblemError(
        HTTPStatus.NOT_ACCEPTABLE,
        "no-pixels",
        f"The object cannot be shown like that: {error}",
        "Fetch the whole instance instead.",
    )


def unavailable(error: StorageError) -> ProblemError:
    """The object is listed, and a disk or the store does not have it."""
    is_away = isinstance(error, StorageAwayError)
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE if is_away else HTTPStatus.NOT_FOUND,
        error.code.replace("_", "-"),
        "The object is listed, and its bytes cannot be had as they were stored.",
        str(error),
    )
