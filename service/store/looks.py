"""Who looked at what: rows of the audit trail, written in the transaction that read.

A page reads itself again and loads its pictures one by one. The same look of the same caller within
`REPEAT` is therefore one row: the trail says who saw what and when, not how often a browser asked. Call these
last in a transaction: appends to the trail take turns until it ends.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from service.store import audit
from service.store.tables import AuditRow

REPEAT = timedelta(minutes=15)
VIEWED, FETCHED, QUERIED = "study.viewed", "dicomweb.retrieved", "list.queried"
THUMBNAIL = "thumbnail"
# Free words: people search by name. That they did is told, not for what (I9).
WITHHELD = frozenset({"text", "actor", "by"})


def viewed(session: Session, key: str, *, actor: str, kind: str | None = None) -> None:
    """Record that a caller was shown a study, or anything of it.

    A picture on a list is no opened study: it neither stands for one nor hides one.

    Parameters
    ----------
    session : Session
        Of the transaction that read what is shown.
    key : str
    actor : str
        The caller's name.
    kind : str, optional
        What was shown where the study was not opened: `THUMBNAIL`.
    """
    same = (AuditRow.study_key == key, AuditRow.detail["kind"].astext.is_not_distinct_from(kind))
    if not _is_repeated(session, VIEWED, actor, *same):
        detail = {} if kind is None else {"kind": kind}
        audit.append(session, VIEWED, actor=actor, study_key=key, **detail)


def fetched(session: Session, key: str, kind: str, *, actor: str) -> None:
    """Record that a caller fetches one kind of thing of a study: a viewer asks for a thousand frames.

    Parameters
    ----------
    session : Session
    key : str
    kind : str
        What is fetched: ``frames``, ``metadata``.
    actor : str
        The caller's name.
    """
    same = (AuditRow.study_key == key, AuditRow.detail["kind"].astext == kind)
    if not _is_repeated(session, FETCHED, actor, *same):
        audit.append(session, FETCHED, actor=actor, study_key=key, kind=kind)


def queried(session: Session, what: str, filters: Mapping[str, Any], *, found: int, actor: str) -> None:
    """Record that a caller asked for a list.

    Parameters
    ----------
    session : Session
        Of the transaction that read the list.
    what : str
        Which list: ``worklist``.
    filters : mapping of str to JSON value
        As asked, without the place in the list: turning a page is no new question.
    found : int
        Studies that the filters leave.
    actor : str
        The caller's name.
    """
    told = {
        name: "withheld" if name in WITHHELD else value
        for name, value in filters.items()
        if value not in (None, "")
    }
    same = (AuditRow.detail["what"].astext == what, AuditRow.detail["filters"] == told)
    if not _is_repeated(session, QUERIED, actor, *same):
        audit.append(session, QUERIED, actor=actor, what=what, filters=told, found=found)


def _is_repeated(session: Session, action: str, actor: str, *same: ColumnElement[bool]) -> bool:
    """Whether the caller did the same a short while ago."""
    since = datetime.now(UTC) - REPEAT
    recent = select(AuditRow.number).where(
        AuditRow.action == action, AuditRow.actor == actor, AuditRow.at > since, *same
    )
    return session.scalar(recent.limit(1)) is not None
