"""Whom a study is about. Nothing here is ever logged; `service.access` decides how much of it is shown."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.keys import ReceivedHeader
from service.access import Identity, Masking, ShownIdentity, mask
from service.store import audit, studies
from service.store.among import among
from service.store.tables import IdentityRow, StudyRow

_TEXTS = ("study_uid", "name", "patient_id", "issuer", "accession_number", "sex")
_NUMBERS = ("birth_date", "age_years")


def stated(header: ReceivedHeader) -> Identity:
    """Whom an instance says that it is about."""
    person = header.person
    return Identity(
        name=person.name,
        patient_id=person.patient_id,
        issuer=person.issuer,
        accession_number=header.accession_number,
        birth_date=person.birth_date,
        age_years=person.age_years,
        sex=person.sex,
        study_uid=header.study_uid,
    )


def note(session: Session, key: str, identity: Identity) -> None:
    """Store whom a study is about; what its images said before stays, what they left out is filled."""
    study_id = session.scalar(select(StudyRow.id).where(StudyRow.key == key))
    if study_id is not None:
        note_all(session, {study_id: identity})


def note_all(session: Session, found: Mapping[int, Identity]) -> None:
    """Store whom studies are about, by the number of their rows; as `note`."""
    added = insert(IdentityRow)
    kept = {
        name: func.coalesce(func.nullif(getattr(IdentityRow, name), ""), added.excluded[name])
        for name in _TEXTS
    } | {name: func.coalesce(getattr(IdentityRow, name), added.excluded[name]) for name in _NUMBERS}
    session.execute(
        added.on_conflict_do_update(index_elements=["study_id"], set_=kept),
        [
            {"study_id": study_id, **{name: getattr(identity, name) for name in (*_TEXTS, *_NUMBERS)}}
            for study_id, identity in found.items()
        ],
    )


def lacking(session: Session, keys: Sequence[str]) -> frozenset[str]:
    """Return the studies, among those given, that are known, and not whom they are about."""
    is_noted = exists().where(IdentityRow.study_id == StudyRow.id)
    return frozenset(session.scalars(select(StudyRow.key).where(among(StudyRow.key, keys), ~is_noted)))


def newest(session: Session) -> tuple[str, str] | None:
    """Key and UID of the newest study of which both are known."""
    row = session.execute(
        select(StudyRow.key, IdentityRow.study_uid)
        .join(IdentityRow, IdentityRow.study_id == StudyRow.id)
        .where(IdentityRow.study_uid != "")
        .order_by(StudyRow.id.desc())
        .limit(1)
    ).first()
    return None if row is None else (row.key, row.study_uid)


def of_studies(session: Session, keys: Sequence[str]) -> dict[str, Identity]:
    """Whom studies are about, by key; those that nothing is known of are left out."""
    rows = session.execute(
        select(StudyRow.key, IdentityRow)
        .join(IdentityRow, IdentityRow.study_id == StudyRow.id)
        .where(among(StudyRow.key, keys))
    )
    return {key: identity_in(row) for key, row in rows}


def identity_in(row: IdentityRow | None) -> Identity:
    """Whom a row is about; nobody known where there is none."""
    return Identity(**{name: getattr(row, name) for name in (*_TEXTS, *_NUMBERS)}) if row else Identity()


def shown(session: Session, keys: Sequence[str], masking: Masking) -> dict[str, ShownIdentity]:
    """What may be shown of whom studies are about, by key."""
    if masking is Masking.NONE:
        return {}
    return {key: mask(identity, masking) for key, identity in of_studies(session, keys).items()}


def reveal(session: Session, key: str, *, actor: str) -> Identity | None:
    """Whom a study is about, in full; who asked is on record in the same transaction.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    studies.locked(session, key)
    audit.append(session, "identity.revealed", actor=actor, study_key=key)
    return of_studies(session, [key]).get(key)


def forget(session: Session, study_id: int) -> None:
    """Remove whom a study was about."""
    session.execute(delete(IdentityRow).where(IdentityRow.study_id == study_id))
