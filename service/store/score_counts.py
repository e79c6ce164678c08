"""How the raw scores of one model lie: counted in the database, however many there are."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Float, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.orm import Session

from service.store.tables import ScoreRow, StudyRow
from service.study import Band


def count_scores(
    session: Session, *, model_sha256: str, calibration_sha256: str, since: datetime, edges: Sequence[float]
) -> list[int]:
    """Studies received since a time, by raw score; only those whose newest score one model gave.

    Parameters
    ----------
    session : Session
    model_sha256, calibration_sha256 : str
        Scores of another model, or against another group, do not compare.
    since : datetime
    edges : sequence of float
        Ascending.

    Returns
    -------
    list of int
        Below the first edge, between the edges, from the last edge on: one more than there are edges.
    """
    bucket = func.width_bucket(StudyRow.study_score, cast(array(list(edges)), ARRAY(Float)))
    found = session.execute(
        select(bucket, func.count())
        .join(ScoreRow, ScoreRow.id == StudyRow.score_id)
        .where(
            StudyRow.band == Band.RANKED,
            StudyRow.received_at >= since,
            ScoreRow.model_hash == model_sha256,
            ScoreRow.calibration_hash == calibration_sha256,
        )
        .group_by(bucket)
    )
    counts = [0] * (len(edges) + 1)
    for index, count in found:
        counts[index] = count
    return counts
