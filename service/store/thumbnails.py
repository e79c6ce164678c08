"""Which frame of a heatmap stands for a study on a list."""

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from service.store.among import among
from service.store.tables import ScoreRow, StudyRow
from service.study import Band


def thumbnails(session: Session, keys: Sequence[str]) -> dict[str, int]:
    """Frames of the strongest regions, by study; the middle one where no region stands out.

    Parameters
    ----------
    session : Session
    keys : sequence of str

    Returns
    -------
    dict of str to int
        Frames from 0. Studies without pictures that are still kept are left out.
    """
    strongest = ScoreRow.regions[0]["slice_index"].as_integer()
    frame = func.least(func.coalesce(strongest, ScoreRow.pictures / 2), ScoreRow.pictures - 1)
    rows = session.execute(
        select(StudyRow.key, frame)
        .join(ScoreRow, ScoreRow.id == StudyRow.score_id)
        .where(
            among(StudyRow.key, keys),
            StudyRow.band == Band.RANKED,
            ScoreRow.pictures > 0,
            or_(StudyRow.deleted_at.is_(None), ScoreRow.ended_at > StudyRow.deleted_at),
        )
    )
    return {key: int(found) for key, found in rows}
