"""The tables. Rows never leave `service.store`; what they mean stands in `service.study`.

Unique keys carry the invariants: one revision per set of instances, one score per revision, model and
configuration, one result per score and kind, one delivery per result and destination (design §4).
"""

from service.store.tables.base import SCHEMA, Base
from service.store.tables.identity import IdentityRow
from service.store.tables.messages import AwaitedRow, ChannelRow, MessageRow
from service.store.tables.people import InvitationRow, PersonRow, SessionRow, TokenRow
from service.store.tables.running import AuditRow, HeartbeatRow, ParkedDestinationRow
from service.store.tables.studies import DeliveryRow, InstanceRow, ResultRow, RevisionRow, ScoreRow, StudyRow

__all__ = [
    "SCHEMA",
    "AuditRow",
    "AwaitedRow",
    "Base",
    "ChannelRow",
    "DeliveryRow",
    "HeartbeatRow",
    "IdentityRow",
    "InstanceRow",
    "InvitationRow",
    "MessageRow",
    "ParkedDestinationRow",
    "PersonRow",
    "ResultRow",
    "RevisionRow",
    "ScoreRow",
    "SessionRow",
    "StudyRow",
    "TokenRow",
]
