"""Searches of QIDO-RS (PS3.18 10.6) as plain queries. What is not in hand any more is not found."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from dicom_node.identity import is_uid
from service.errors import TriageError
from service.store.among import among
from service.store.tables import IdentityRow, ListedInstanceRow, ListedSeriesRow, ListedStudyRow, StudyRow
from service.study import Whereabouts

_DATE = re.compile(r"[0-9]{8}")
_TIME = re.compile(r"([0-9]{2}){1,3}(\.[0-9]{1,6})?")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
MOST_COUNTED = 1000  # results beyond a page; to count more costs more than the page
LONGEST_VALUE = 1024  # characters of one value a caller asks for; a list of UIDs among them


class BadSearchError(TriageError):
    """The search cannot be answered. The message names the attribute; see docs/dicomweb.md."""


class Level(IntEnum):
    """What is searched for; an attribute of a level is one of every level below it too."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """What can be asked for.

    Attributes
    ----------
    tag : str
        Eight hexadecimal digits, upper case.
    keyword, vr : str
    level : Level
    column : ColumnElement or None
        What stands in the database; None where the value is gathered from the levels below.
    """

    tag: str
    keyword: str
    vr: str
    level: Level
    column: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One question.

    Attributes
    ----------
    level : Level
    matches : mapping of Attribute to str
        Values as a caller writes them; an empty one matches everything.
    limit, offset : int
    """

    level: Level
    matches: Mapping[Attribute, str]
    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One study, series or instance that was found: its attributes, empty ones left out."""

    values: Mapping[Attribute, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """A page of them, newest study first.

    Attributes
    ----------
    found : tuple of Match
    remaining : int
        How many more there are, of which at most `MOST_COUNTED` are counted.
    is_remaining_exact : bool
        False: there are more, which nobody counted.
    """

    found: tuple[Match, ...]
    remaining: int
    is_remaining_exact: bool


_BIRTH_DATE = func.coalesce(func.to_char(IdentityRow.birth_date, "YYYYMMDD"), "")
_SYNTAX = ListedInstanceRow.transfer_syntax_uid
ATTRIBUTES: Final = tuple(
    Attribute(tag=tag, keyword=keyword, vr=vr, level=level, column=column)
    for tag, keyword, vr, level, column in (
        ("00080020", "StudyDate", "DA", Level.STUDY, ListedStudyRow.date),
        ("00080030", "StudyTime", "TM", Level.STUDY, ListedStudyRow.time),
        ("00080050", "AccessionNumber", "SH", Level.STUDY, IdentityRow.accession_number),
        ("00080061", "ModalitiesInStudy", "CS", Level.STUDY, None),
        ("00080062", "SOPClassesInStudy", "UI", Level.STUDY, None),
        ("00080090", "ReferringPhysicianName", "PN", Level.STUDY, ListedStudyRow.referring_physician),
        ("00081030", "StudyDescription", "LO", Level.STUDY, StudyRow.description),
        ("00100010", "PatientName", "PN", Level.STUDY, IdentityRow.name),
        ("00100020", "PatientID", "LO", Level.STUDY, IdentityRow.patient_id),
        ("00100021", "IssuerOfPatientID", "LO", Level.STUDY, IdentityRow.issuer),
        ("00100030", "PatientBirthDate", "DA", Level.STUDY, _BIRTH_DATE),
        ("00100040", "PatientSex", "CS", Level.STUDY, IdentityRow.sex),
        ("0020000D", "StudyInstanceUID", "UI", Level.STUDY, IdentityRow.study_uid),
        ("00200010", "StudyID", "SH", Level.STUDY, ListedStudyRow.number),
        ("00080060", "Modality", "CS", Level.SERIES, ListedSeriesRow.modality),
        ("0008103E", "SeriesDescription", "LO", Level.SERIES, ListedSeriesRow.description),
        ("00180015", "BodyPartExamined", "CS", Level.SERIES, ListedSeriesRow.body_part),
        ("0020000E", "SeriesInstanceUID", "UI", Level.SERIES, ListedSeriesRow.series_uid),
        ("00200011", "SeriesNumber", "IS", Level.SERIES, ListedSeriesRow.number),
        ("00400244", "PerformedProcedureStepStartDate", "DA", Level.SERIES, ListedSeriesRow.began_date),
        ("00400245", "PerformedProcedureStepStartTime", "TM", Level.SERIES, ListedSeriesRow.began_time),
        ("00080016", "SOPClassUID", "UI", Level.INSTANCE, ListedInstanceRow.sop_class_uid),
        ("00080018", "SOPInstanceUID", "UI", Level.INSTANCE, ListedInstanceRow.sop_instance_uid),
        ("00200013", "InstanceNumber", "IS", Level.INSTANCE, ListedInstanceRow.number),
        ("00280008", "NumberOfFrames", "IS", Level.INSTANCE, ListedInstanceRow.frames),
        ("00280010", "Rows", "US", Level.INSTANCE, ListedInstanceRow.rows),
        ("00280011", "Columns", "US", Level.INSTANCE, ListedInstanceRow.columns),
        ("00280100", "BitsAllocated", "US", Level.INSTANCE, ListedInstanceRow.bits_allocated),
        (
            "00083002",
            "AvailableTransferSyntaxUID",
            "UI",
            Level.INSTANCE,
            ListedInstanceRow.transfer_syntax_uid,
        ),
    )
)
BY_NAME: Final = {name: one for one in ATTRIBUTES for name in (one.tag, one.keyword)}
STUDY_UID, SERIES_UID, SOP_INSTANCE_UID = (
    BY_NAME[name] for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
)
_MODALITIES, _SOP_CLASSES = BY_NAME["ModalitiesInStudy"], BY_NAME["SOPClassesInStudy"]
# Counts, which are answered and never matched.
STUDY_SERIES = Attribute(tag="00201206", keyword="NumberOfStudyRelatedSeries", vr="IS", level=Level.STUDY)
STUDY_INSTANCES = Attribute(
    tag="00201208", keyword="NumberOfStudyRelatedInstances", vr="IS", level=Level.STUDY
)
SERIES_INSTANCES = Attribute(
    tag="00201209", keyword="NumberOfSeriesRelatedInstances", vr="IS", level=Level.SERIES
)


def search(session: Session, wanted: Search) -> Matches:
    """Page of what matches.

    Raises
    ------
    BadSearchError
        If a value is none that its attribute can have.
    """
    shown = [one for one in ATTRIBUTES if one.level <= wanted.level and one.column is not None]
    statement = _from(
        select(StudyRow.id, _series_id(wanted.level), *(one.column for one in shown)), wanted.level
    )
    conditions = [StudyRow.bytes_are == Whereabouts.HERE] + [
        condition(attribute, value) for attribute, value in wanted.matches.items() if value
    ]
    rows = session.execute(
        statement.where(*conditions)
        .order_by(*_order(wanted.level))
        .limit(wanted.limit + 1)
        .offset(wanted.offset)
    ).all()
    remaining = 0
    if len(rows) > wanted.limit:
        beyond = (
            _from(select(StudyRow.id), wanted.level)
            .where(*conditions)
            .order_by(StudyRow.id.desc())  # in another order those before the page may be other ones
            .limit(MOST_COUNTED + 1)
            .offset(wanted.offset + wanted.limit)
        )
        remaining = session.scalar(select(func.count()).select_from(beyond.subquery())) or 0
        rows = rows[: wanted.limit]
    study_facts = _study_facts(session, {row[0] for row in rows})
    counts = _series_counts(session, {row[1] for row in rows}) if wanted.level is Level.SERIES else {}
    found = []
    for study_id, series_id, *values in rows:
        match: dict[Attribute, Any] = {
            attribute: value
            for attribute, value in zip(shown, values, strict=True)
            if value not in {None, ""}
        }
        match |= study_facts.get(study_id, {})
        if wanted.level is Level.SERIES:
            match[SERIES_INSTANCES] = counts.get(series_id, 0)
        found.append(Match(values=match))
    return Matches(
        found=tuple(found),
        remaining=min(remaining, MOST_COUNTED),
        is_remaining_exact=remaining <= MOST_COUNTED,
    )


def _series_id(level: Level) -> Any:
    return ListedSeriesRow.id if level >= Level.SERIES else StudyRow.id


def _from(statement: Select[*tuple[Any, ...]], level: Level) -> Select[*tuple[Any, ...]]:
    joined = statement.join(IdentityRow, IdentityRow.study_id == StudyRow.id).join(
        ListedStudyRow, ListedStudyRow.study_id == StudyRow.id
    )
    if level >= Level.SERIES:
        joined = joined.join(ListedSeriesRow, ListedSeriesRow.study_id == StudyRow.id)
    if level >= Level.INSTANCE:
        joined = joined.join(ListedInstanceRow, ListedInstanceRow.series_id == ListedSeriesRow.id)
    return joined


def _order(level: Level) -> Sequence[Any]:
    """Newest study first; within it as people number it. The ids make it one order."""
    order: list[Any] = [StudyRow.id.desc()]
    if level >= Level.SERIES:
        order += [ListedSeriesRow.number.nulls_last(), ListedSeriesRow.id]
    if level >= Level.INSTANCE:
        order += [ListedInstanceRow.number.nulls_last(), ListedInstanceRow.id]
    return order


def _study_facts(session: Session, study_ids: set[int]) -> dict[int, dict[Attribute, Any]]:
    """What is gathered from the series and instances of studies."""
    rows = session.execute(
        select(
            ListedSeriesRow.study_id,
            func.count(ListedSeriesRow.id.distinct()),
            func.count(),
            func.array_agg(ListedSeriesRow.modality.distinct()),
            func.array_agg(ListedInstanceRow.sop_class_uid.distinct()),
        )
        .join(ListedInstanceRow, ListedInstanceRow.series_id == ListedSeriesRow.id)
        .where(among(ListedSeriesRow.study_id, study_ids))
        .group_by(ListedSeriesRow.study_id)
    )
    return {
        study_id: {
            STUDY_SERIES: series,
            STUDY_INSTANCES: instances,
            _MODALITIES: [modality for modality in modalities if modality],
            _SOP_CLASSES: [sop_class for sop_class in sop_classes if sop_class],
        }
        for study_id, series, instances, modalities, sop_classes in rows
    }


def _series_counts(session: Session, series_ids: set[int]) -> dict[int, int]:
    rows = session.execute(
        select(ListedInstanceRow.series_id, func.count())
        .where(among(ListedInstanceRow.series_id, series_ids))
        .group_by(ListedInstanceRow.series_id)
    )
    return {series_id: count for series_id, count in rows}  # noqa: C416 - rows are not pairs to dict()


def condition(attribute: Attribute, value: str) -> ColumnElement[bool]:
    """Matching of one attribute (PS3.4 C.2.2.2).

    Raises
    ------
    BadSearchError
        If the value is none that the attribute can have.
    """
    if len(value) > LONGEST_VALUE or "\0" in value:
        raise BadSearchError(f"The value of {attribute.keyword} is too long, or no text.")
    # Of any series or instance of the study, not of the one that is searched for.
    if attribute is _MODALITIES:
        has_one = exists().where(
            ListedSeriesRow.study_id == StudyRow.id, _text(ListedSeriesRow.modality, _listed(value))
        )
        return has_one.correlate(StudyRow)
    if attribute is _SOP_CLASSES:
        has_one = exists().where(
            ListedInstanceRow.study_id == StudyRow.id,
            ListedInstanceRow.sop_class_uid.in_(_uids(attribute, value)),
        )
        return has_one.correlate(StudyRow)
    return _RULES[attribute.vr](attribute, value)


def _among(attribute: Attribute, value: str) -> ColumnElement[bool]:
    return _bool(attribute.column.in_(_uids(attribute, value)))


def _equal(attribute: Attribute, value: str) -> ColumnElement[bool]:
    if not _NUMBER.fullmatch(value):
        raise BadSearchError(f"The value of {attribute.keyword} is no number.")
    return _bool(attribute.column == int(value))


def _listed(value: str) -> list[str]:
    return [one for one in re.split(r"[\\,]", value) if one]


def _uids(attribute: Attribute, value: str) -> list[str]:
    uids = _listed(value)
    if not uids or not all(is_uid(uid) for uid in uids):
        raise BadSearchError(f"The value of {attribute.keyword} is no UID, nor a list of them.")
    return uids


def _range(attribute: Attribute, value: str) -> ColumnElement[bool]:
    """Range matching (PS3.4 C.2.2.2.5); a time that names no seconds means all of them."""
    pattern = _DATE if attribute.vr == "DA" else _TIME
    first, dash, last = value.partition("-")
    if not dash:
        first = last = value
    if not (first or last) or not all(pattern.fullmatch(end) for end in (first, last) if end):
        raise BadSearchError(f"The value of {attribute.keyword} is no date or time, nor a range of them.")
    column = attribute.column.collate("C")
    ends = [column != ""]
    if first:
        ends.append(column >= first)
    if last:
        is_within = column <= last
        is_day = attribute.vr == "DA"  # no day is a part of another
        ends.append(is_within if is_day else or_(is_within, column.startswith(last, autoescape=True)))
    return and_(*ends)


def _text(column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    return or_(*(column.like(_pattern(value)) if _is_wild(value) else column == value for value in values))


def _name(attribute: Attribute, value: str) -> ColumnElement[bool]:
    """Without regard to case, in any of a name's groups (PS3.4 C.2.2.2.1, PS3.5 6.2.1.1)."""
    column, pattern = attribute.column, _pattern(value)
    groups = or_(*(func.split_part(column, "=", n).ilike(pattern) for n in (1, 2, 3)))
    return or_(column.ilike(pattern), and_(func.strpos(column, "=") > 0, groups))  # few names have several


def _pattern(value: str) -> str:
    escaped = re.sub(r"([\\%_])", r"\\\1", value)
    return escaped.replace("*", "%").replace("?", "_")


def _is_wild(value: str) -> bool:
    return "*" in value or "?" in value


def _bool(condition: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool] = condition
    return found


_RULES: Final[Mapping[str, Callable[[Attribute, str], ColumnElement[bool]]]] = {
    "UI": _among,
    "DA": _range,
    "TM": _range,
    "IS": _equal,
    "US": _equal,
    "PN": _name,
    "CS": lambda attribute, value: _text(attribute.column, _listed(value)),
    "LO": lambda attribute, value: _text(attribute.column, [value]),
    "SH": lambda attribute, value: _text(attribute.column, [value]),
}
