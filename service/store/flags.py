"""Flags of studies: what a person must look at, whatever the state."""

from collections.abc import Collection, Iterable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.store.among import among
from service.store.tables import InstanceRow, StudyRow


def known_instances(session: Session, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """Those of some instances that have a row, and whether they are results of ours.

    Parameters
    ----------
    names : collection of tuple of str
        Study key and file name.
    """
    rows = session.execute(
        select(StudyRow.key, InstanceRow.file_name, InstanceRow.is_own)
        .join(InstanceRow, InstanceRow.study_id == StudyRow.id)
        .where(
            among(StudyRow.key, sorted({key for key, _ in names})),
            among(InstanceRow.file_name, sorted({name for _, name in names})),
        )
    )
    return {(key, name): is_own for key, name, is_own in rows if (key, name) in names}


def flag(session: Session, keys: Collection[str], code: str) -> tuple[str, ...]:
    """Flag the studies that have no flag; return which."""
    rows = session.scalars(
        update(StudyRow)
        .where(among(StudyRow.key, sorted(keys)), StudyRow.flag.is_(None))
        .values(flag=code)
        .returning(StudyRow.key)
    )
    return tuple(sorted(rows))


def names_two_patients(session: Session, study_id: int) -> bool:
    """Whether two instances state different ids, birth dates or names; what one leaves out says nothing."""
    marks = session.scalars(
        select(InstanceRow.patient)
        .where(
            InstanceRow.study_id == study_id,
            ~InstanceRow.is_own,
            ~InstanceRow.is_deleted,
            InstanceRow.patient != "",
        )
        .distinct()
    )
    return are_two_patients(marks)


def are_two_patients(marks: Iterable[str]) -> bool:
    """Whether pseudonyms of patients differ where both say something."""
    stated = [mark.split(".") for mark in marks if mark]
    return any(len(set(values) - {""}) > 1 for values in zip(*stated, strict=True))
