"""When a role began and ended, and with which settings: on record where they are not those of before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from service import __version__
from service.settings import Settings
from service.store import Store, audit
from service.store.tables import AuditRow

STARTED, STOPPED, CHANGED = "service.started", "service.stopped", "configuration.changed"
SECRET = frozenset({"database_url"})  # may hold a password
ABSENT = "absent"


@contextmanager
def on_record(store: Store, role: str, settings: Settings) -> Iterator[None]:
    """Record that a role runs as long as the block does. A database that is away keeps no role from it."""
    with suppress(OperationalError, InterfaceError), store.transaction() as session:
        started(session, role, settings)
    try:
        yield
    finally:
        with suppress(OperationalError, InterfaceError), store.transaction() as session:
            audit.append(session, STOPPED, actor=role)


def started(session: Session, role: str, settings: Settings) -> None:
    """Record that a role begins, and what of its settings is not as it was when it last began.

    Parameters
    ----------
    session : Session
    role : str
        ``node``, ``infer``, ``deliver`` or ``api``.
    settings : Settings
    """
    values = _told(settings)
    audit.append(session, STARTED, actor=role, version=__version__)
    before = session.scalar(
        select(AuditRow.detail["settings"])
        .where(AuditRow.action == CHANGED, AuditRow.actor == role)
        .order_by(AuditRow.number.desc())
        .limit(1)
    )
    if before != values:
        known = before or {}
        changed = sorted(name for name in {*known, *values} if known.get(name) != values.get(name))
        audit.append(session, CHANGED, actor=role, changed=changed, settings=values)


def _told(settings: Settings) -> dict[str, str]:
    """Settings that somebody gave, and the digests of the files they name."""
    given = settings.model_dump(mode="json", exclude_defaults=True)
    values = {
        name: _digest(str(value).encode()) if name in SECRET else str(value) for name, value in given.items()
    }
    for name, path in (("peers", settings.peers_path), ("oidc", settings.oidc)):
        if path is not None:
            try:
                values[f"{name}_sha256"] = _digest(path.read_bytes())
            except OSError:
                values[f"{name}_sha256"] = ABSENT
    return values


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
