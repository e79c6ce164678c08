"""Who may use Vigil."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, func
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class PersonRow(Base):
    """Somebody who may sign in."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    subject: Mapped[str | None] = mapped_column(unique=True)  # issuer and subject of an identity provider
    password_hash: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class InvitationRow(Base):
    """A one-time link: for a new account, or for a new password of an old one."""

    __tablename__ = "invitation"

    digest: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    person_id: Mapped[int | None] = mapped_column(ForeignKey("vigil.person.id"))
    expires_at: Mapped[datetime]


class SessionRow(Base):
    """Somebody at a browser."""

    __tablename__ = "session"

    digest: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("vigil.person.id"))
    csrf: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class SignInRow(Base):
    """Somebody on the way to the identity provider and back. Its removal is its use, so it is used once."""

    __tablename__ = "sign_in"

    digest: Mapped[str] = mapped_column(primary_key=True)  # of the state
    browser: Mapped[str]  # digest of what the browser that began it keeps
    nonce: Mapped[str]
    verifier: Mapped[str]
    target: Mapped[str]
    expires_at: Mapped[datetime]


class TokenRow(Base):
    """What another system shows to be let in."""

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
