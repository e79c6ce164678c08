"""Who may do what, and how much of a patient's identity a person is shown. Knows no database and no web.

A role is a named set of permissions. Masking is decided here, before anything is rendered: what a person may
not see is not in the answer at all (I9).
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

# Whom the trail names beside people: what runs, who sits at the machine, and whom nobody knows.
ACTORS = frozenset(
    {
        "anybody on this machine",
        "cli",
        "delivery",
        "first start",
        "inference",
        "node",
        "nobody",
        "operator",
        "retention",
        "vigil",
    }
)


class Permission(StrEnum):
    """One thing that somebody may do."""

    VIEW = "view"  # the list, a study, its pictures
    READ = "read"  # reveal an identity, give feedback, claim a study, mark it as seen
    OPERATE = "operate"  # score again, send again, cancel, park, change a priority
    ADMINISTER = "administer"  # people, tokens, models, settings, the audit trail
    SEND = "send"  # hand in instances over HTTP
    CLAIM = "claim"  # take a work item of UPS-RS, and say what became of it
    IMAGES = "images"  # search and fetch DICOM objects, which name the patient: no masking can apply to them


class Role(StrEnum):
    """What a person or a system is to Vigil."""

    VIEWER = "viewer"  # a screen in a reading room
    READER = "reader"  # a radiologist
    OPERATOR = "operator"  # a PACS administrator
    ADMIN = "admin"  # who decides about people
    SERVICE = "service"  # another system, by token


GRANTS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.READER: frozenset({Permission.VIEW, Permission.READ, Permission.CLAIM, Permission.IMAGES}),
    Role.OPERATOR: frozenset(Permission) - {Permission.ADMINISTER},
    Role.ADMIN: frozenset(Permission),
    Role.SERVICE: frozenset({Permission.VIEW, Permission.SEND, Permission.CLAIM, Permission.IMAGES}),
}


class Masking(StrEnum):
    """How much of an identity a list shows."""

    FULL = "full"
    INITIALS = "initials"  # initials, age and sex
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name : str
        Of the account or the token; stands in the audit trail.
    role : Role
    csrf : str or None
        What a form of this caller's session must carry; None where no cookie says who asks, so that no other
        page can make a browser ask.
    """

    name: str
    role: Role
    csrf: str | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the caller's role grants it."""
        return permission in GRANTS[self.role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a study is about, as the images say it.

    Attributes
    ----------
    name : str
        DICOM person name, components divided by ``^``.
    patient_id, issuer, accession_number : str
        The issuer is that of the patient id.
    birth_date : date or None
    age_years : float or None
        At the time of the study.
    sex : str
        ``M``, ``F``, ``O`` or empty.
    study_uid : str
        For messages and standards that demand it.
    """

    name: str = ""
    patient_id: str = ""
    issuer: str = ""
    accession_number: str = ""
    birth_date: date | None = None
    age_years: float | None = None
    sex: str = ""
    study_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownIdentity:
    """What of an identity an answer holds. What is masked is None: there is nothing to hide in a page.

    Attributes
    ----------
    label : str
        For a list: the name, the initials, or empty.
    age_years : int or None
    sex : str or None
    patient_id, accession_number : str or None
    birth_date : date or None
    """

    label: str = ""
    age_years: int | None = None
    sex: str | None = None
    patient_id: str | None = None
    accession_number: str | None = None
    birth_date: date | None = None


def mask(identity: Identity | None, masking: Masking) -> ShownIdentity:
    """Return the part of an identity that may be shown."""
    if identity is None or masking is Masking.NONE:
        return ShownIdentity()
    age = None if identity.age_years is None else int(identity.age_years)
    if masking is Masking.INITIALS:
        return ShownIdentity(label=initials(identity.name), age_years=age, sex=identity.sex or None)
    return ShownIdentity(
        label=readable(identity.name),
        age_years=age,
        sex=identity.sex or None,
        patient_id=identity.patient_id or None,
        accession_number=identity.accession_number or None,
        birth_date=identity.birth_date,
    )


def initials(name: str) -> str:
    """Initials of a DICOM person name, given name first: ``Doe^Jane^M`` gives ``J. D.``.

    The first group with letters counts (PS3.5 6.2.1.1); a name of one component gives one initial.
    """
    family, given = _components(name)
    return " ".join(f"{part[0].upper()}." for part in (given, family) if part)


def readable(name: str) -> str:
    """Return a DICOM person name as people write it: ``Doe^Jane`` gives ``Doe, Jane``."""
    family, given = _components(name)
    return ", ".join(part for part in (family, given) if part)


def _components(name: str) -> tuple[str, str]:
    """Family and given name of the first group that has any."""
    for group in name.split("="):
        parts = [part.strip() for part in group.split("^")]
        family, given = parts[0], parts[1] if len(parts) > 1 else ""
        if family or given:
            return family, given
    return "", ""


def is_name_of_another(name: str) -> bool:
    """Whether the audit trail could take a person of this name for a token or for Vigil itself."""
    return ":" in name or not name.isprintable() or name.casefold() in ACTORS
