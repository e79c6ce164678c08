"""What a reader does to a study: seen, assignment, feedback, reveal. Each is audited with its change."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Response
from fastapi import Path as InPath
from pydantic import Field, model_validator

from service.access import Caller, Masking, Permission, mask
from service.api import schemas
from service.api.callers import Viewer, require
from service.api.dependencies import Key, PartsOf, refuse_unknown_parameters
from service.api.once import ActOf, Versions, refuse_idempotency_key, tag
from service.api.schemas import Body
from service.store import feedback, identities, looks, marks
from service.store.people import LONGEST_NAME
from service.store.shown import PATTERN
from service.study import Conspicuity, State, Verdict

router = APIRouter(
    prefix="/api/v1/studies",
    tags=["reading"],
    dependencies=[Depends(require(Permission.READ)), Depends(refuse_unknown_parameters)],
)
# What people have done is for all to see who see the list; a note, which may name a patient, is not.
shown = APIRouter(
    prefix="/api/v1/studies",
    tags=["reading"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

LARGEST = 2**31 - 1
# Text without control characters other than tabs and line ends: those belong to no sentence.
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"

Reader = Annotated[Caller, Depends(require(Permission.READ))]
Number = Annotated[int, InPath(ge=1, le=LARGEST, description="Of the feedback, within its study.")]


class Seen(Body):
    """Whether a person looked at what the newest score says."""

    seen_at: datetime | None = Field(description="When somebody first did; null where nobody has.")
    seen_by: str | None


class Look(Body):
    """What the caller looked at."""

    revision: Annotated[int, Field(ge=1, le=LARGEST)] | None = Field(
        None, description="The one on the screen; refused with 409 where another counts now."
    )
    score: Annotated[str, Field(pattern=PATTERN)] | None = Field(
        None, description="Of the row on the screen; refused with 409 where it says something else now."
    )


class Assign(Body):
    """Whose study it is to be."""

    assigned_to: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=TEXT)] | None = Field(
        description="An account that may read, or the caller; null: nobody's."
    )


class Assignment(Body):
    """Whose study it is."""

    assigned_to: str | None
    assigned_by: str | None
    assigned_at: datetime | None
    version: int = Field(description="As the ETag says it.")


class Judge(Body):
    """What a reader says of a study."""

    verdict: Verdict
    note: Annotated[str, Field(max_length=feedback.LONGEST_NOTE, pattern=TEXT)] = ""
    region: Annotated[int, Field(ge=0, le=LARGEST)] | None = Field(
        None, description="Index among the regions of the score, from 0."
    )
    slice_index: Annotated[int, Field(ge=0, le=LARGEST)] | None = Field(
        None, description="Frame of the heatmap, from 0."
    )
    conspicuity: Conspicuity | None = Field(
        None,
        description="How easily a confirmed finding is seen: 1 clearly noticeable, 2 partially, "
        "3 unobtrusive. Of no other verdict.",
    )

    @model_validator(mode="after")
    def _only_a_finding_is_conspicuous(self) -> Self:
        if self.conspicuity is not None and self.verdict is not Verdict.CONFIRMED_FINDING:
            raise ValueError("conspicuity belongs to a confirmed_finding; leave it out")
        return self

    def opinion(self) -> feedback.Opinion:
        """Return the same as a value of the store."""
        return feedback.Opinion(
            verdict=self.verdict,
            note=self.note,
            region=self.region,
            slice_index=self.slice_index,
            conspicuity=self.conspicuity,
        )


class Give(Judge, Look):
    """What a reader says of a study that they look at."""


class Feedback(Body):
    """What a reader said, and what Vigil had said: the numbers it judges, copied."""

    key: str = Field(description="Of the study.")
    number: int = Field(description="Within the study.")
    version: int = Field(description="As the ETag says it; each correction is one more.")
    verdict: Verdict
    note: str = Field(description="Empty for a caller who may not read: it may name a patient.")
    region: int | None
    slice_index: int | None
    conspicuity: Conspicuity | None = Field(description="Of a confirmed finding, where it was said.")
    by: str
    at: datetime
    state: State = Field(description="Of the study when it was judged.")
    is_current: bool = Field(description="What it judged still counts; false: scored again since.")
    revision: int | None
    model_hash: str | None
    calibration_hash: str | None
    study_score: float | None
    percentile: float | None


def shown_to(caller: Caller, found: feedback.Feedback) -> Feedback:
    """Return feedback as a caller may see it: a note, which may name a patient, is for readers."""
    body = Feedback.model_validate(found)
    return body if caller.may(Permission.READ) else body.model_copy(update={"note": ""})


@router.post("/{key}/seen")
def mark_seen(act: ActOf, key: Key, looked: Look | None = None) -> Seen:
    """Note that the caller looked. Seen before, it stays whose it was."""
    seen = looked or Look()
    return act.once(
        Seen,
        lambda session: Seen.model_validate(
            marks.mark_seen(session, key, actor=act.caller.name, revision=seen.revision, score=seen.score)
        ),
    )


@router.delete("/{key}/seen")
def unmark_seen(parts: PartsOf, caller: Reader, key: Key) -> Seen:
    """Take it back: the study counts as not looked at."""
    with parts.store.transaction() as session:
        return Seen.model_validate(marks.unmark_seen(session, key, actor=caller.name))


@shown.get("/{key}/assignment")
def read_assignment(parts: PartsOf, caller: Viewer, response: Response, key: Key) -> Assignment:
    """Whose study it is; the ETag names the version."""
    with parts.store.transaction() as session:
        found = marks.assignment(session, key)
        looks.viewed(session, key, actor=caller.name)
    tag(response, found.version)
    return Assignment.model_validate(found)


@router.put("/{key}/assignment")
def change_assignment(
    parts: PartsOf, caller: Reader, response: Response, key: Key, wanted: Assign, versions: Versions
) -> Assignment:
    """Give a study to somebody, or to nobody."""
    with parts.store.transaction() as session:
        found = marks.assign(session, key, wanted.assigned_to, actor=caller.name, versions=versions)
    tag(response, found.version)
    return Assignment.model_validate(found)


@router.post("/{key}/feedback", status_code=HTTPStatus.CREATED)
def give_feedback(act: ActOf, key: Key, said: Give) -> Feedback:
    """Say what a study turned out to be. It changes no score and no order."""
    given = act.once(
        Feedback,
        lambda session: Feedback.model_validate(
            feedback.give(
                session,
                key,
                said.opinion(),
                actor=act.caller.name,
                revision=said.revision,
                score=said.score,
            )
        ),
    )
    tag(act.response, given.version)
    act.response.headers["Location"] = f"/api/v1/studies/{key}/feedback/{given.number}"
    return given


@shown.get("/{key}/feedback")
def list_feedback(parts: PartsOf, caller: Viewer, key: Key) -> list[Feedback]:
    """What was said of a study, each in its newest version, newest first."""
    with parts.store.transaction() as session:
        found = [shown_to(caller, one) for one in feedback.of_study(session, key)]
        looks.viewed(session, key, actor=caller.name)
    return found


@shown.get("/{key}/feedback/{number}")
def read_feedback(parts: PartsOf, caller: Viewer, response: Response, key: Key, number: Number) -> Feedback:
    """One feedback in its newest version; the ETag names it."""
    with parts.store.transaction() as session:
        found = feedback.one(session, key, number)
        looks.viewed(session, key, actor=caller.name)
    tag(response, found.version)
    return shown_to(caller, found)


@router.put("/{key}/feedback/{number}")
def correct_feedback(
    parts: PartsOf,
    caller: Reader,
    response: Response,
    key: Key,
    number: Number,
    said: Judge,
    versions: Versions,
) -> Feedback:
    """Correct what the caller said; what was said before stays on record."""
    with parts.store.transaction() as session:
        found = feedback.correct(session, key, number, said.opinion(), actor=caller.name, versions=versions)
    tag(response, found.version)
    return Feedback.model_validate(found)


@router.post("/{key}/reveal", dependencies=[Depends(refuse_idempotency_key)])
def reveal_identity(parts: PartsOf, caller: Reader, key: Key) -> schemas.Identity:
    """Show the whole identity of one study, whatever is masked; who did is on record."""
    with parts.store.transaction() as session:
        identity = identities.reveal(session, key, actor=caller.name)
    return schemas.Identity.model_validate(mask(identity, Masking.FULL))
