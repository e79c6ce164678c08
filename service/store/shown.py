"""What stood on a reader's screen, and whether it still stands: nobody marks what they did not see.

A study is scored again on the same revision too: by another model, with another calibration, after its
scanner drifted. So the number of the revision does not say what was on the screen; the name of what the
study says does.
"""

import hashlib
from datetime import UTC

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import RevisionChangedError, ScoreChangedError
from service.store.tables import RevisionRow, ScoreRow, StudyRow

DIGITS = 16  # hexadecimal
PATTERN = rf"^[0-9a-f]{{{DIGITS}}}$"


def standing_of(study: StudyRow) -> str:
    """Name of what a study says now: another one after every change that takes the mark "seen" away.

    Returns
    -------
    str
        `DIGITS` hexadecimal digits that say nothing else.
    """
    ended_at = study.ended_at.astimezone(UTC).isoformat() if study.ended_at else ""
    said = f"{study.score_id} {study.state.value} {study.band} {ended_at}"
    return hashlib.sha256(said.encode()).hexdigest()[:DIGITS]


def require(session: Session, study: StudyRow, *, revision: int | None, score: str | None) -> int | None:
    """Number of the revision whose score counts, or refuse what was said of another.

    Parameters
    ----------
    study : StudyRow
        Locked by this transaction.
    revision : int or None
        The one that was on the screen; None: whichever it is.
    score : str or None
        Likewise, as `standing_of` named it.

    Raises
    ------
    RevisionChangedError
        If another revision counts now.
    ScoreChangedError
        If the study says something else now.
    """
    current = session.scalar(
        select(RevisionRow.number)
        .join(ScoreRow, ScoreRow.revision_id == RevisionRow.id)
        .where(ScoreRow.id == study.score_id)
    )
    if revision is not None and revision != current:
        raise RevisionChangedError(RevisionChangedError.__doc__)
    if score is not None and score != standing_of(study):
        raise ScoreChangedError(ScoreChangedError.__doc__)
    return current
