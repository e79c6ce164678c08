"""People on the way to the identity provider and back, and sign-ins that failed."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.provider import Errand
from service.store import audit
from service.store.people import SESSION_REST, digest
from service.store.tables import InvitationRow, PersonRow, SessionRow, SignInRow

LIFE = timedelta(minutes=10)  # a password and a second factor take a while
NOBODY = "nobody"


def begin(session: Session, errand: Errand, *, browser: str) -> None:
    """Keep an errand until its browser comes back.

    Parameters
    ----------
    session : Session
    errand : Errand
    browser : str
        What the browser was given to keep: nobody else can end the errand.
    """
    session.add(
        SignInRow(
            digest=digest(errand.state),
            browser=digest(browser),
            nonce=errand.nonce,
            verifier=errand.verifier,
            target=errand.target,
            expires_at=datetime.now(UTC) + LIFE,
        )
    )


def take(session: Session, state: str, *, browser: str) -> Errand | None:
    """Return the errand of a browser that came back; None where it has none, ended it or took too long."""
    row = session.execute(
        delete(SignInRow)
        .where(
            SignInRow.digest == digest(state),
            SignInRow.browser == digest(browser),
            SignInRow.expires_at > datetime.now(UTC),
        )
        .returning(SignInRow.nonce, SignInRow.verifier, SignInRow.target)
    ).first()
    return row and Errand(state=state, nonce=row.nonce, verifier=row.verifier, target=row.target)


def refused(session: Session, *, reason: str, address: str, name: str | None = None) -> None:
    """Record a sign-in that failed.

    Parameters
    ----------
    session : Session
        Of its own: what failed was rolled back.
    reason : str
        A code.
    address : str
        Network address of the browser.
    name : str, optional
        As typed. It is told only where there is such an account: people type passwords into the wrong field.
    """
    known = name and session.scalar(select(PersonRow.name).where(PersonRow.name == name.strip()))
    audit.append(session, "person.sign_in_failed", actor=known or NOBODY, reason=reason, address=address)


def sweep(session: Session) -> None:
    """Remove sessions, one-time links and errands that have ended."""
    now = datetime.now(UTC)
    for row in (InvitationRow, SignInRow, SessionRow):
        session.execute(delete(row).where(row.expires_at <= now))
    session.execute(delete(SessionRow).where(SessionRow.used_at <= now - SESSION_REST))
