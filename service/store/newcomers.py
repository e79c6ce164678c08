"""Studies that nobody knew and that are whole at once, many in one transaction.

What stands here afterwards is what `studies.register`, `studies.complete` and `jobs.queue` leave, one study
after another; a test compares the two. A cohort of 30,000 needs a tenth of the statements this way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.web.listing import Listing
from service.access import Identity
from service.store import dicom_index, identities, studies
from service.store.studies import Arrival
from service.store.tables import InstanceRow, RevisionRow, ScoreRow, StudyRow
from service.study import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A study with all its instances, none of them a result of ours.

    Attributes
    ----------
    key : str
    arrivals : sequence of Arrival
        In the order in which they were received.
    identity : Identity
    listings : mapping of str to Listing
        By file name.
    """

    key: str
    arrivals: Sequence[Arrival]
    identity: Identity
    listings: Mapping[str, Listing]

    @property
    def content_hash(self) -> str:
        """Hash of its first revision."""
        return studies.hash_of(sorted(self.arrivals, key=lambda arrival: arrival.file_name))


def enter(
    session: Session,
    newcomers: Sequence[Newcomer],
    *,
    model_hash: str,
    config_digest: str,
    priority: int,
    completed_by: str,
    now: datetime,
    run_at: datetime,
) -> dict[str, int]:
    """Write study, instances, identity, first revision and queued score of each.

    Returns
    -------
    dict of str to int
        Score to enqueue, by study key; those left out that somebody else was first to write.
    """
    ordered = {newcomer.key: newcomer for newcomer in sorted(newcomers, key=lambda one: one.key)}
    added = session.execute(
        insert(StudyRow).on_conflict_do_nothing(index_elements=["key"]).returning(StudyRow.key, StudyRow.id),
        [_study(newcomer, priority, completed_by, now) for newcomer in ordered.values()],
    )
    ids: dict[str, int] = {key: number for key, number in added}  # noqa: C416 - rows are not pairs to dict()
    if not ids:
        return {}
    fresh = {ids[key]: ordered[key] for key in ids}
    rows = session.execute(
        plain_insert(InstanceRow).returning(InstanceRow.study_id, InstanceRow.file_name, InstanceRow.id),
        [
            {**studies.instance_columns(study_id, arrival), "first_revision": 1}
            for study_id, newcomer in fresh.items()
            for arrival in newcomer.arrivals
        ],
    )
    listed: dict[int, list[tuple[Listing, int]]] = {}
    for study_id, name, number in rows:
        if name in fresh[study_id].listings:
            listed.setdefault(study_id, []).append((fresh[study_id].listings[name], number))
    if listed:
        dicom_index.note_all_received(session, listed)
    identities.note_all(session, {study_id: newcomer.identity for study_id, newcomer in fresh.items()})
    revisions = session.execute(
        plain_insert(RevisionRow).returning(RevisionRow.study_id, RevisionRow.id),
        [
            {
                "study_id": study_id,
                "number": 1,
                "content_hash": newcomer.content_hash,
                "completed_by": completed_by,
            }
            for study_id, newcomer in fresh.items()
        ],
    )
    of_revision = {revision_id: fresh[study_id].key for study_id, revision_id in revisions}
    scores = session.execute(
        plain_insert(ScoreRow).returning(ScoreRow.revision_id, ScoreRow.id),
        [
            {
                "revision_id": revision_id,
                "model_hash": model_hash,
                "config_digest": config_digest,
                "run_at": run_at,
                "state": State.QUEUED,
            }
            for revision_id in of_revision
        ],
    )
    return {of_revision[revision_id]: score_id for revision_id, score_id in scores}


def _study(newcomer: Newcomer, priority: int, completed_by: str, now: datetime) -> dict[str, object]:
    arrivals = newcomer.arrivals
    shown = studies.shown_of(arrivals)
    return {
        "key": newcomer.key,
        "state": State.QUEUED,
        "priority": priority,
        "modality": shown.modality,
        "description": shown.description,
        "sender": max(arrivals, key=lambda arrival: arrival.received_at).sender,
        "received_at": min(arrival.received_at for arrival in arrivals),
        "last_instance_at": max(arrival.received_at for arrival in arrivals),
        "is_pending": False,
        "completed_at": now,
        "completed_by": completed_by,
    }
