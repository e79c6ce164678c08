"""Where results go, as a screen shows it: parked or not, and how much waits or was given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.store.tables import DeliveryRow, ParkedDestinationRow
from service.study import DeliveryStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One peer that is, or was, sent results.

    Attributes
    ----------
    name : str
    is_configured : bool
        It stands in the peers file.
    parked_at : datetime or None
        Since when a person lets its deliveries wait.
    deliveries : dict of DeliveryStatus to int
        Every status named.
    """

    name: str
    is_configured: bool
    parked_at: datetime | None
    deliveries: dict[DeliveryStatus, int]


def destinations(session: Session, configured: Sequence[str]) -> tuple[Destination, ...]:
    """Return every destination that is configured, parked, or was sent something, by name."""
    counts: dict[str, dict[DeliveryStatus, int]] = {}
    counted = select(DeliveryRow.destination, DeliveryRow.status, func.count())
    for name, status, count in session.execute(counted.group_by(DeliveryRow.destination, DeliveryRow.status)):
        counts.setdefault(name, {})[status] = count
    parked = {row.name: row.parked_at for row in session.scalars(select(ParkedDestinationRow))}
    return tuple(
        Destination(
            name=name,
            is_configured=name in configured,
            parked_at=parked[name].astimezone(UTC) if name in parked else None,
            deliveries=dict.fromkeys(DeliveryStatus, 0) | counts.get(name, {}),
        )
        for name in sorted({*configured, *counts, *parked})
    )
