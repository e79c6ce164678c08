"""How the states of a study are coded in messages; the rest is coded as in the result objects."""

from types import MappingProxyType
from typing import Final

from pydicom.sr.coding import Code

from dicom_node.channel import Event
from dicom_node.results import codes
from models.errors import Reason
from service.messages.message import Message
from service.store.reports import Report
from service.study import State
from service.why import FLAGS

FAILED: Final = codes.vigil("FAILED", "Failed: nothing was judged")
SUPERSEDED: Final = codes.vigil("SUPERSEDED", "More images came: what was told holds no longer")
PENDING: Final = codes.vigil("PENDING", "Not judged yet")
FAILURE: Final = codes.vigil("FAIL-REASON", "Reason of failure")
TRIAGE: Final = codes.vigil("TRIAGE", "Anomaly ranking by a machine, not a diagnosis")
MODEL: Final = codes.vigil("MODEL", "Model that judged")
GROUP: Final = Code("121405", "DCM", "Population Description")

_STATES: Final = MappingProxyType(
    {State.SCORED: codes.SCORED, State.NOT_ASSESSABLE: codes.NOT_ASSESSABLE, State.FAILED: FAILED}
)


def notice(report: Report, *, is_judged: bool) -> str:
    """Write what a reader must know: what is wrong with the study, then what is told does not mean."""
    said = codes.DISCLAIMER if is_judged else codes.NOT_ASSESSED
    return said if report.flag is None else f"{FLAGS.get(report.flag, report.flag)} {said}"


def state_of(message: Message) -> Code:
    """Concept of what a message says happened."""
    return SUPERSEDED if message.event is Event.SUPERSEDED else state_code(message.report)


def state_code(report: Report) -> Code:
    """Concept of a report's state."""
    return _STATES.get(report.state, PENDING)


def reason_code(report: Report) -> Code | None:
    """Concept of why a study is not assessable; None where it is, or the reason has no code."""
    if report.state is not State.NOT_ASSESSABLE or report.reason not in list(Reason):
        return None
    return codes.REASONS[Reason(report.reason)]
