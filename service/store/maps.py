"""Anomaly maps that are kept for the page, and what of each a slice says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from service.store.tables import MapRow, RevisionRow, ScoreRow, StudyRow
from service.study import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What the map says slice by slice.

    Attributes
    ----------
    peaks : tuple of float
        Highest value of the map in each slice, 0 to 1.
    bands : tuple of float
        Ascending thresholds of the bands, on the same scale.
    """

    peaks: tuple[float, ...]
    bands: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMap:
    """One anomaly map on disk, on the grid of the scored series.

    Attributes
    ----------
    path, sha256 : str
        Of its file, a compressed NIfTI-1.
    bytes : int
        Of the file.
    voxels : int
    curve : Curve
    """

    path: str
    sha256: str
    bytes: int
    voxels: int
    curve: Curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewed:
    """What a screen shows of a scored study in three dimensions.

    Attributes
    ----------
    score_id : int
    content_hash : str
        Of the revision that was scored.
    series : str
        Pseudonym of the scored series.
    map : StoredMap
    """

    score_id: int
    content_hash: str
    series: str
    map: StoredMap


def put(session: Session, score_id: int, stored: StoredMap) -> None:
    """Store the map of a score."""
    session.add(
        MapRow(
            score_id=score_id,
            path=stored.path,
            sha256=stored.sha256,
            bytes=stored.bytes,
            voxels=stored.voxels,
            curve={"peaks": list(stored.curve.peaks), "bands": list(stored.curve.bands)},
        )
    )


def viewed(session: Session, key: str) -> Viewed | None:
    """Map of the score that counts, with what its volume is made of; None where there is none.

    A picture alone has no map, nor has a study that is not scored, or whose bytes were deleted, or that was
    scored by a release that kept none.
    """
    newest = session.execute(
        select(ScoreRow.id, ScoreRow.scored_series, RevisionRow.content_hash)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            StudyRow.key == key,
            StudyRow.state == State.SCORED,
            or_(StudyRow.deleted_at.is_(None), ScoreRow.ended_at > StudyRow.deleted_at),
        )
        .order_by(RevisionRow.number.desc(), ScoreRow.id.desc())
        .limit(1)
    ).first()
    found = of_score(session, newest.id) if newest else None
    if newest is None or found is None:
        return None
    return Viewed(
        score_id=newest.id, content_hash=newest.content_hash, series=newest.scored_series, map=found
    )


def of_score(session: Session, score_id: int) -> StoredMap | None:
    """Map of one score; None where none was kept."""
    row = session.get(MapRow, score_id)
    if row is None:
        return None
    return StoredMap(
        path=row.path,
        sha256=row.sha256,
        bytes=row.bytes,
        voxels=row.voxels,
        curve=Curve(peaks=_numbers(row.curve["peaks"]), bands=_numbers(row.curve["bands"])),
    )


def _numbers(stored: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in stored)
