"""The tables. Rows never leave `service.store`; what they mean stands in `service.study`.

Unique keys carry the invariants: one revision per set of instances, one score per revision, model and
configuration, one result per score and kind, one delivery per result and destination (design §4).
"""

from service.store.tables.actions import AnswerRow, FeedbackRow
from service.store.tables.base import SCHEMA, Base
from service.store.tables.calibration import CalibrationRow
from service.store.tables.changes import ChangeRow, SecretRow
from service.store.tables.filters import SavedFilterRow
from service.store.tables.identity import IdentityRow
from service.store.tables.maps import MapRow
from service.store.tables.messages import AwaitedRow, ChannelRow, MessageRow
from service.store.tables.people import InvitationRow, PersonRow, SessionRow, SignInRow, TokenRow
from service.store.tables.running import AuditExportRow, AuditRow, HeartbeatRow, ParkedDestinationRow
from service.store.tables.screening import CohortRow, CohortStudyRow, ReferralRow
from service.store.tables.shadow import ShadowScoreRow
from service.store.tables.studies import DeliveryRow, InstanceRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.store.tables.watches import GroupWatchRow, WatchedRow
from service.store.tables.web import ListedInstanceRow, ListedSeriesRow, ListedStudyRow
from service.store.tables.workitems import SubscriptionRow, WorkitemEventRow, WorkitemRow

__all__ = [
    "SCHEMA",
    "AnswerRow",
    "AuditExportRow",
    "AuditRow",
    "AwaitedRow",
    "Base",
    "CalibrationRow",
    "ChangeRow",
    "ChannelRow",
    "CohortRow",
    "CohortStudyRow",
    "DeliveryRow",
    "FeedbackRow",
    "GroupWatchRow",
    "HeartbeatRow",
    "IdentityRow",
    "InstanceRow",
    "InvitationRow",
    "ListedInstanceRow",
    "ListedSeriesRow",
    "ListedStudyRow",
    "MapRow",
    "MessageRow",
    "ParkedDestinationRow",
    "PersonRow",
    "ReferralRow",
    "ResultRow",
    "RevisionRow",
    "SavedFilterRow",
    "ScoreRow",
    "SecretRow",
    "SessionRow",
    "ShadowScoreRow",
    "SignInRow",
    "StudyRow",
    "SubscriptionRow",
    "TokenRow",
    "WatchedRow",
    "WorkitemEventRow",
    "WorkitemRow",
]
