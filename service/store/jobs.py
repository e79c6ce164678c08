"""Scores, results and deliveries: what a job finds, and what it leaves. First writer wins (I3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.kinds import ResultKind
from service.store import deliveries, maps, packs, results, supersession
from service.store.maps import StoredMap
from service.store.packs import PackFacts
from service.store.results import StoredResult
from service.store.supersession import SUPERSEDED
from service.store.tables import FeedbackRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import PARKED, PackState, RetractionState, State, Whereabouts, move


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceJob:
    """One attempt to score one revision.

    Attributes
    ----------
    score_id : int
    study_key : str
    revision : int
        Number of the revision within the study.
    content_hash : str
        Over the revision's instances.
    file_names : tuple of str
        Instances of the study that count.
    model_hash, config_digest : str
        What the score was queued for.
    run_at : datetime
        Stored run time; all clock-derived fields of the results take it (I4).
    priority, attempt : int
    predecessor : tuple of str, optional
        SOP class and instance UID of the newest report on the study before this score.
    shown_as : str, optional
        SOP class of the pictures that an earlier score of the study left; None where there are none.
    hashes : mapping of str to str
        SHA-256 of each instance's data set by its file name; empty where it was damaged on arrival.
    series : mapping of str to str
        Pseudonym of each instance's series, as received, by its file name.
    pack : PackFacts, optional
        None where the study is read from the spool.
    is_deleted : bool
        Its bytes are gone, or on their way out.
    """

    score_id: int
    study_key: str
    revision: int
    revision_id: int
    content_hash: str
    file_names: tuple[str, ...]
    model_hash: str
    config_digest: str
    run_at: datetime
    priority: int
    attempt: int
    predecessor: tuple[str, str] | None
    shown_as: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)
    pack: PackFacts | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a queued score before an attempt on it.

    Attributes
    ----------
    priority : int
    was_cut_off : bool
        The attempt before ended with its process, or has not ended: nobody said how it went.
    """

    priority: int
    was_cut_off: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an inference job ended: scored, not assessable or failed."""

    state: State
    reason: str | None = None
    detail: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # columns of the score
    seconds: Mapping[str, float] = field(default_factory=dict)  # what each stage of the attempt took
    results: Sequence[StoredResult] = ()
    map: StoredMap | None = None


def queue(
    session: Session, revision_id: int, *, model_hash: str, config_digest: str, run_at: datetime
) -> int | None:
    """Make the score that a job will fill, and move the study to *queued*.

    Returns
    -------
    int or None
        Id of the score; None where this revision has one for this model and configuration.
    """
    score_id = session.scalar(
        insert(ScoreRow)
        .values(
            revision_id=revision_id,
            model_hash=model_hash,
            config_digest=config_digest,
            run_at=run_at,
            state=State.QUEUED,
        )
        .on_conflict_do_nothing(index_elements=["revision_id", "model_hash", "config_digest"])
        .returning(ScoreRow.id)
    )
    if score_id is not None:
        study = _study_of(session, revision_id)
        if study.state is not State.QUEUED:
            study.state = move(study.state, State.QUEUED)
    return score_id


def standing(session: Session, score_id: int) -> Standing | None:
    """Return how urgent a score is and how its last attempt went; None where it has ended."""
    found = session.execute(
        select(ScoreRow.attempts, ScoreRow.detail, StudyRow.priority)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(ScoreRow.id == score_id, ScoreRow.state == State.QUEUED)
    ).first()
    if found is None:
        return None
    # An attempt that ends in order leaves a word (`excuse`), which the next one takes away.
    return Standing(priority=found.priority, was_cut_off=found.attempts > 0 and not found.detail)


def begin(session: Session, score_id: int) -> InferenceJob | None:
    """Count one attempt and return what to do; None where nothing is left to do, or the study is parked."""
    score = session.scalar(select(ScoreRow).where(ScoreRow.id == score_id).with_for_update())
    if score is None or score.state is not State.QUEUED or score.revision.study.parked_at is not None:
        return None
    if not supersession.is_current(session, score):
        _supersede(score)
        return None
    if score.revision.pack is PackState.WANTED:  # its job comes back with the pack
        return None
    score.attempts += 1
    score.detail = ""
    score.began_at = datetime.now(UTC)
    return _inference_job(session, score)


def find(session: Session, score_id: int) -> InferenceJob | None:
    """Return what `begin` returned, without counting; None where the score has ended."""
    score = session.get(ScoreRow, score_id)
    return _inference_job(session, score) if score and score.state is State.QUEUED else None


def as_read(session: Session, score_id: int) -> InferenceJob:
    """Return what an attempt on a score reads, also when it has ended."""
    return _inference_job(session, session.get_one(ScoreRow, score_id))


def _inference_job(session: Session, score: ScoreRow) -> InferenceJob:
    revision = score.revision
    study = revision.study
    before = supersession.earlier(session, score)
    instances = [
        instance
        for instance in study.instances
        # Later arrivals belong to a revision that is not complete yet.
        if instance.first_revision is not None
        and instance.first_revision <= revision.number
        and not instance.is_deleted
    ]
    return InferenceJob(
        score_id=score.id,
        study_key=study.key,
        revision=revision.number,
        revision_id=revision.id,
        content_hash=revision.content_hash,
        file_names=tuple(instance.file_name for instance in instances),
        model_hash=score.model_hash,
        config_digest=score.config_digest,
        run_at=score.run_at.astimezone(UTC),
        priority=study.priority,
        attempt=score.attempts,
        predecessor=before.report,
        shown_as=before.shown_as,
        hashes={instance.file_name: instance.sha256 for instance in instances},
        series={instance.file_name: instance.series for instance in instances},
        pack=packs.facts(revision),
        is_deleted=study.bytes_are is not Whereabouts.HERE,
    )


def excuse(session: Session, score_id: int, detail: str, *, counts: bool) -> None:
    """Say how an attempt on a queued score ended, so that nobody takes its process for dead.

    Parameters
    ----------
    detail : str
        In words, free of identity.
    counts : bool
        False takes the attempt back: what ended it was not the study's fault.
    """
    score = session.scalars(select(ScoreRow).where(ScoreRow.id == score_id).with_for_update()).one()
    score.detail = detail
    if not counts:
        score.attempts = max(score.attempts - 1, 0)


def rename(session: Session, job: InferenceJob, *, model_hash: str, config_digest: str) -> bool:
    """Make a queued score one of another model or configuration.

    The row is renamed, not replaced: a model that comes back (a rollback, an old process beside a new one)
    must find the job again. Its attempts stay: between workers of two models a study would never use them up.

    Returns
    -------
    bool
        Whether there was something to rename; False where the score has ended, or this revision has a score
        of that model and configuration already. One that waits has its job, or gets one from the reaper.
    """
    study = _study_of(session, job.revision_id)
    score = session.scalar(select(ScoreRow).where(ScoreRow.id == job.score_id).with_for_update())
    if score is None or score.state is not State.QUEUED:
        return False
    twin = session.scalar(
        select(ScoreRow).where(
            ScoreRow.revision_id == score.revision_id,
            ScoreRow.model_hash == model_hash,
            ScoreRow.config_digest == config_digest,
            ScoreRow.id != score.id,
        )
    )
    if twin is None:
        score.model_hash, score.config_digest = model_hash, config_digest
        return True
    had_job = twin.state is State.QUEUED
    if twin.state is State.FAILED and twin.reason == SUPERSEDED:  # no answer: it waits in this one's place
        twin.state, twin.reason, twin.ended_at = State.QUEUED, None, None
        twin.attempts, twin.run_at, twin.detail = score.attempts, score.run_at, "taken up again"
    if score.retraction is RetractionState.MADE and twin.retraction is not RetractionState.MADE:
        session.execute(  # archives have what it said when it had failed: its rows stay with the study
            update(ResultRow).where(ResultRow.score_id == score.id).values(score_id=twin.id)
        )
        session.expire(score, ["results"])
        twin.retraction = RetractionState.MADE
    if had_job or session.scalar(select(exists().where(FeedbackRow.score_id == score.id))):
        _supersede(score)
    else:  # or it would stand before the answer that there is: the newest score is what counts
        session.delete(score)
        session.flush()
    if twin.state is not State.QUEUED:
        study.state = move(study.state, twin.state)
        study.reason, study.detail, study.ended_at = twin.reason, twin.detail, twin.ended_at
        deliveries.take_up(session, twin.id, study_key=study.key)
    return False


def _supersede(score: ScoreRow) -> None:
    """End a queued score that a newer revision or another score made pointless."""
    score.state, score.reason, score.ended_at = State.FAILED, SUPERSEDED, datetime.now(UTC)


def record(
    session: Session,
    job: InferenceJob,
    outcome: Outcome,
    destinations: Callable[[str], Sequence[str]],
    *,
    while_parked: bool = False,
) -> list[int] | None:
    """Store how a job ended: score, results, one delivery per result and destination, state of the study.

    Parameters
    ----------
    destinations : callable
        Kind of a result to the names of those that are sent it.
    while_parked : bool
        Store it also of a parked study: for what became of its files, not for what an attempt said.

    Returns
    -------
    list of int or None
        Ids of the deliveries to enqueue; None where nothing was stored: another worker was first, a newer
        revision or model took the score's place, or a person parked the study.
    """
    # The study first, as the intake locks it: nobody may add a revision while we ask which is the newest.
    study = _study_of(session, job.revision_id)
    score = session.scalar(select(ScoreRow).where(ScoreRow.id == job.score_id).with_for_update())
    if score is None or score.state is not State.QUEUED:
        return None
    if (score.model_hash, score.config_digest, score.run_at) != (
        job.model_hash,
        job.config_digest,
        job.run_at,
    ):
        return None  # renamed or taken up anew since: these numbers are of another attempt chain
    if study.parked_at is not None and not while_parked:  # since this attempt began
        score.attempts, score.detail = max(score.attempts - 1, 0), PARKED  # the next one counts in its place
        return None
    if not supersession.is_current(session, score):
        _supersede(score)
        return None
    now = datetime.now(UTC)
    score.state, score.reason, score.detail, score.ended_at = (
        outcome.state,
        outcome.reason,
        outcome.detail,
        now,
    )
    score.seconds = dict(outcome.seconds)
    for column, value in outcome.values.items():
        setattr(score, column, value)
    if outcome.map is not None:
        maps.put(session, score.id, outcome.map)
    made = results.add(session, study.id, score.id, outcome.results, destinations)
    if not any(result.kind == ResultKind.REPORT for result in outcome.results):
        supersession.want_retraction(session, score)
    study.state = move(study.state, outcome.state)
    study.reason, study.detail, study.ended_at = outcome.reason, outcome.detail, now
    session.flush()
    return [delivery.id for delivery in made]


def waiting_scores(session: Session) -> dict[int, int]:
    """Scores that a job should be working on, with the priority of their study; none of a parked one."""
    rows = session.execute(
        select(ScoreRow.id, StudyRow.priority)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            ScoreRow.state == State.QUEUED,
            StudyRow.parked_at.is_(None),
            or_(RevisionRow.pack.is_(None), RevisionRow.pack != PackState.WANTED),
        )
    )
    return {score_id: priority for score_id, priority in rows}  # noqa: C416 - rows are not pairs to dict()


def _study_of(session: Session, revision_id: int) -> StudyRow:
    return session.scalars(
        select(StudyRow).join(RevisionRow).where(RevisionRow.id == revision_id).with_for_update(of=StudyRow)
    ).one()


def is_newest(session: Session, revision_id: int) -> bool:
    """Whether no newer revision of its study has come."""
    revision = session.get_one(RevisionRow, revision_id)
    newest = session.scalar(
        select(func.max(RevisionRow.number)).where(RevisionRow.study_id == revision.study_id)
    )
    return revision.number == newest
