"""Accounts, one-time links, sessions and tokens. Of every secret only a digest is stored.

A session's or a token's secret has 256 random bits, so a plain SHA-256 of it cannot be searched back. A
password is chosen by a person, so it is stretched by argon2id (RFC 9106).
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.access import Caller, Role, is_name_of_another
from service.errors import AccountError, TriageError
from service.store import audit
from service.store.tables import InvitationRow, PersonRow, SessionRow, TokenRow

INVITATION_LIFE = timedelta(hours=24)
SESSION_LIFE = timedelta(hours=12)  # a working day; nobody signs in twice a shift
SESSION_REST = timedelta(minutes=60)  # unused this long, it has ended: a reading room has many hands
USED_EVERY = timedelta(minutes=1)  # a live page asks often; its session's last use need not be exact
LEAST_PASSWORD, LONGEST_PASSWORD = 12, 128  # characters; NIST SP 800-63B 5.1.1 asks for 8 to 64 at least
LONGEST_NAME = 80
TOKEN_PREFIX = "vigil_"  # noqa: S105 - lets a secret scanner find a token that was committed somewhere

_HASHER = PasswordHasher()


class SignInError(TriageError):
    """The name or the password is wrong. Try again, or ask an administrator for a one-time link."""


class InvitationError(TriageError):
    """The one-time link was used or is too old. Ask an administrator for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One person.

    Attributes
    ----------
    name : str
    role : Role
    created_at : datetime
    is_active : bool
    """

    name: str
    role: Role
    created_at: datetime
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, without its secret."""

    id: int
    name: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def is_empty(session: Session) -> bool:
    """Whether nobody can sign in yet."""
    return session.scalar(select(func.count()).select_from(PersonRow)) == 0


def invite(session: Session, role: Role, *, actor: str, name: str | None = None) -> str:
    """Make a one-time link's secret, for a new account or, with `name`, for a new password of an old one.

    Raises
    ------
    AccountError
        If there is no account of that name.
    """
    person_id = None
    if name is not None:
        person = _active(session, name)
        if person is None:
            raise AccountError(f"There is no account {name!r}. Leave the name out to invite somebody new.")
        person_id = person.id
    secret = secrets.token_urlsafe(32)
    session.add(
        InvitationRow(
            digest=digest(secret),
            role=role.value,
            person_id=person_id,
            expires_at=datetime.now(UTC) + INVITATION_LIFE,
        )
    )
    audit.append(session, "person.invited", actor=actor, role=role.value, account=name)
    return secret


def welcome_path(secret: str) -> str:
    """Address of a one-time link on the server that serves the pages."""
    return f"/welcome?code={secret}"


def is_invited(session: Session, secret: str) -> bool:
    """Whether a one-time link still holds."""
    return _invitation(session, secret) is not None


def accept(session: Session, secret: str, *, name: str, password: str) -> str:
    """Use a one-time link up; return the name of the account that has this password now.

    Raises
    ------
    InvitationError
        If the link was used or is too old.
    AccountError
        If the name is taken or the password too short.
    """
    invitation = _invitation(session, secret)
    if invitation is None:
        raise InvitationError(InvitationError.__doc__)
    if not LEAST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccountError(f"Choose a password of {LEAST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    session.execute(delete(InvitationRow).where(InvitationRow.digest == invitation.digest))
    hashed = _HASHER.hash(password)
    if invitation.person_id is not None:
        person = session.get_one(PersonRow, invitation.person_id)
        person.password_hash = hashed
        _end_sessions(session, person.id)
        audit.append(session, "person.password_changed", actor=person.name)
        return person.name
    chosen = name.strip()
    if not 1 <= len(chosen) <= LONGEST_NAME:
        raise AccountError(f"Choose a name of 1 to {LONGEST_NAME} characters.")
    if is_name_of_another(chosen):
        raise AccountError("Choose another name: without a colon, and none that Vigil itself acts under.")
    made = session.scalar(
        insert(PersonRow)
        .values(name=chosen, role=invitation.role, password_hash=hashed)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(PersonRow.id)
    )
    if made is None:
        raise AccountError("The name is taken. Choose another.")
    audit.append(session, "person.added", actor=chosen, role=invitation.role)
    return chosen


@cache
def _nobody() -> str:
    """Hash of a password that nobody has: somebody without an account waits as long as somebody with one."""
    return _HASHER.hash(secrets.token_urlsafe())  # not at import: it is as slow as it is meant to be


def sign_in(session: Session, name: str, password: str, *, address: str = "") -> str:
    """Return the secret of a new session.

    Raises
    ------
    SignInError
        Whatever was wrong, in the same words and after the same time.
    """
    person = _active(session, name.strip())
    stored = person.password_hash if person and person.password_hash else _nobody()
    try:
        _HASHER.verify(stored, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError) as error:
        raise SignInError(SignInError.__doc__) from error
    if person is None or person.password_hash is None:
        raise SignInError(SignInError.__doc__)
    return _begin_session(session, person, by="password", address=address)


def sign_in_subject(session: Session, subject: str, *, name: str, role: Role, address: str = "") -> str:
    """Return the secret of a new session of somebody an identity provider vouches for.

    Parameters
    ----------
    subject : str
        Issuer and subject, which name a person for good.
    name : str
        As shown; one that is another account's, or looks like another's, gets the subject's number after it.
    role : Role
        What the provider's groups grant now.
    """
    person = session.scalar(select(PersonRow).where(PersonRow.subject == subject).with_for_update())
    if person is None:
        taken = session.scalar(select(func.count()).select_from(PersonRow).where(PersonRow.name == name))
        if taken or is_name_of_another(name):
            name = f"{name.replace(':', ' ')} ({digest(subject)[:6]})"
        person = PersonRow(name=name, role=role.value, subject=subject)
        session.add(person)
        session.flush()
        audit.append(session, "person.added", actor=person.name, role=role.value)
    if person.ended_at is not None:
        raise SignInError("This account was ended. Ask an administrator.")
    if person.role != role.value:
        person.role, by = role.value, "identity provider"
        audit.append(session, "person.role_changed", actor=person.name, role=role.value, by=by)
    return _begin_session(session, person, by="identity provider", address=address)


def caller_of_session(session: Session, secret: str, *, now: datetime | None = None) -> Caller | None:
    """Return whose session it is; None where it has ended."""
    at = now or datetime.now(UTC)
    found = session.execute(
        select(SessionRow, PersonRow)
        .join(PersonRow, PersonRow.id == SessionRow.person_id)
        .where(
            SessionRow.digest == digest(secret),
            SessionRow.expires_at > at,
            SessionRow.used_at > at - SESSION_REST,
            PersonRow.ended_at.is_(None),
        )
    ).first()
    if found is None:
        return None
    row, person = found
    if at - row.used_at > USED_EVERY:
        row.used_at = at
    return Caller(name=person.name, role=Role(person.role), csrf=row.csrf)


def sign_out(session: Session, secret: str) -> None:
    """End a session; harmless where it has ended."""
    person_id = session.scalar(
        delete(SessionRow).where(SessionRow.digest == digest(secret)).returning(SessionRow.person_id)
    )
    if person_id is not None:
        audit.append(session, "person.signed_out", actor=session.get_one(PersonRow, person_id).name)


def sign_out_everywhere(session: Session, name: str) -> None:
    """End all sessions of an account."""
    person = _active(session, name)
    if person is not None:
        _end_sessions(session, person.id)
        audit.append(session, "person.signed_out", actor=name, everywhere=True)


def caller_of_token(session: Session, secret: str, *, now: datetime | None = None) -> Caller | None:
    """Return whom a token speaks for; None where it is unknown, revoked or too old."""
    at = now or datetime.now(UTC)
    row = session.scalar(select(TokenRow).where(TokenRow.digest == digest(secret)))
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= at):
        return None
    return Caller(name=f"token:{row.name}", role=Role(row.role))


def make_token(
    session: Session, name: str, role: Role, *, actor: str, life: timedelta | None = None
) -> tuple[Token, str]:
    """Make a token; its secret is told once and never again.

    Raises
    ------
    AccountError
        If the name is taken, also by a revoked token: the audit trail knows them by name.
    """
    secret = f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}"
    made = session.scalar(
        insert(TokenRow)
        .values(
            name=name,
            role=role.value,
            digest=digest(secret),
            created_by=actor,
            expires_at=None if life is None else datetime.now(UTC) + life,
        )
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(TokenRow.id)
    )
    if made is None:
        raise AccountError("A token of this name exists. Choose another name.")
    audit.append(session, "token.made", actor=actor, token=name, role=role.value)
    return _token(session.get_one(TokenRow, made)), secret


def revoke_token(session: Session, token_id: int, *, actor: str) -> bool:
    """End a token at once; False where there is none that holds."""
    ended = update(TokenRow).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None))
    name = session.scalar(ended.values(revoked_at=func.now()).returning(TokenRow.name))
    if name is None:
        return False
    audit.append(session, "token.revoked", actor=actor, token=name)
    return True


def tokens(session: Session) -> list[Token]:
    """Every token there ever was, newest first."""
    return [_token(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.id.desc()))]


def accounts(session: Session) -> list[Account]:
    """Every account there ever was, by name."""
    return [
        Account(name=row.name, role=Role(row.role), created_at=row.created_at, is_active=row.ended_at is None)
        for row in session.scalars(select(PersonRow).order_by(PersonRow.name))
    ]


def change_role(session: Session, name: str, role: Role, *, actor: str) -> None:
    """Give an account another role, from its next request on.

    Raises
    ------
    AccountError
        If there is no such account, or nobody would be left to decide about people.
    """
    person = _active(session, name)
    if person is None:
        raise AccountError("There is no such account.")
    if role is not Role.ADMIN:
        _require_another_admin(session, person)
    person.role = role.value
    audit.append(session, "person.role_changed", actor=actor, account=name, role=role.value)


def end_account(session: Session, name: str, *, actor: str) -> None:
    """End an account and its sessions at once; its name stays in the audit trail.

    Raises
    ------
    AccountError
        If there is no such account, or nobody would be left to decide about people.
    """
    person = _active(session, name)
    if person is None:
        raise AccountError("There is no such account.")
    _require_another_admin(session, person)
    person.ended_at = datetime.now(UTC)
    _end_sessions(session, person.id)
    audit.append(session, "person.ended", actor=actor, account=name)


def _begin_session(session: Session, person: PersonRow, *, by: str, address: str) -> str:
    secret = secrets.token_urlsafe(32)
    session.add(
        SessionRow(
            digest=digest(secret),
            person_id=person.id,
            csrf=secrets.token_urlsafe(32),
            expires_at=datetime.now(UTC) + SESSION_LIFE,
        )
    )
    audit.append(session, "person.signed_in", actor=person.name, by=by, address=address)
    return secret


def _end_sessions(session: Session, person_id: int) -> None:
    session.execute(delete(SessionRow).where(SessionRow.person_id == person_id))


def _active(session: Session, name: str) -> PersonRow | None:
    return session.scalar(select(PersonRow).where(PersonRow.name == name, PersonRow.ended_at.is_(None)))


def _invitation(session: Session, secret: str) -> InvitationRow | None:
    return session.scalar(
        select(InvitationRow)
        .where(InvitationRow.digest == digest(secret), InvitationRow.expires_at > datetime.now(UTC))
        .with_for_update()
    )


def _require_another_admin(session: Session, person: PersonRow) -> None:
    """Refuse to leave nobody who decides about people. Admins are locked, so that two cannot go at once."""
    admins = session.scalars(
        select(PersonRow.id)
        .where(PersonRow.role == Role.ADMIN.value, PersonRow.ended_at.is_(None))
        .with_for_update()
    ).all()
    if list(admins) == [person.id]:
        raise AccountError("This is the last administrator. Make somebody else one first.")


def _token(row: TokenRow) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def digest(secret: str) -> str:
    """What is stored of a secret with 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
