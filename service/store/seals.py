"""Text that we hand out and take back: sealed, so that nobody else can make it.

Base64url of a JSON list behind its HMAC-SHA256. It is signed, not hidden: it may hold no identity. The secret
is made at its first use and kept in the database, for all machines of a site.
"""

import base64
import binascii
import hmac
import json
import secrets
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.errors import ForgedCursorError
from service.store.tables import SecretRow

SECRET = "cursor"  # noqa: S105 - its name
SECRET_BYTES, SEAL_BYTES = 32, 16


def seal(session: Session, use: str, content: list[Any]) -> str:
    """Return a JSON list as text that nobody else can make.

    Parameters
    ----------
    use : str
        What the text is for: it opens nothing else.
    """
    text = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mark(_secret(session), use, text) + text).decode().rstrip("=")


def unseal(session: Session, use: str, text: str) -> list[Any]:
    """Return what `seal` was given.

    Raises
    ------
    ForgedCursorError
        If it was not made here, or for another use.
    """
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ForgedCursorError(ForgedCursorError.__doc__) from error
    content = sealed[SEAL_BYTES:]
    if not hmac.compare_digest(sealed[:SEAL_BYTES], _mark(_secret(session), use, content)):
        raise ForgedCursorError(ForgedCursorError.__doc__)
    found: list[Any] = json.loads(content)
    return found


def _mark(secret: bytes, use: str, content: bytes) -> bytes:
    return hmac.digest(secret, use.encode() + b":" + content, "sha256")[:SEAL_BYTES]


def _secret(session: Session) -> bytes:
    """Return the site's secret; make it where there is none, the first to do so winning."""
    found: bytes | None = session.info.get(SECRET)  # it never changes, and a page seals and opens several
    if found is not None:
        return found
    found = session.scalar(select(SecretRow.value).where(SecretRow.name == SECRET))
    if found is None:
        made = insert(SecretRow).values(name=SECRET, value=secrets.token_bytes(SECRET_BYTES))
        session.execute(made.on_conflict_do_nothing())
        found = session.scalars(select(SecretRow.value).where(SecretRow.name == SECRET)).one()
    session.info[SECRET] = found
    return found
