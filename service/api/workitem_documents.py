"""A work item as DICOM JSON (PS3.3 C.30, PS3.4 table CC.2.5-3): whom it is about, and what Vigil says.

A study without a score says so in words and by code, and holds no number (I7).
"""

from datetime import datetime
from typing import Any, Final

from service.api.dicomweb_documents import element, name_element
from service.store.subscriptions import Event
from service.store.workitems import PRIORITIES, Workitem, WorkState
from service.study import State
from service.why import FLAGS

UPS_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
LABEL: Final = "Read study, in order of anomaly"
WORKLIST: Final = "Vigil"
LATE: Final = "More images are arriving; what is said here does not include them."
INTERPRETATION: Final = ("110005", "DCM", "Interpretation")

Document = dict[str, Any]


def document_of(item: Workitem, *, base: str, disclaimer: str) -> Document:
    """Everything of a work item but its Transaction UID, which nobody is told.

    Parameters
    ----------
    item : Workitem
    base : str
        Address of the DICOMweb services.
    disclaimer : str
        The sentence that every answer with numbers carries.
    """
    who = item.identity
    birth = who.birth_date.strftime("%Y%m%d") if who.birth_date else ""
    document = {
        "00080005": element("CS", "ISO_IR 192"),
        "00080016": element("UI", UPS_PUSH),
        "00080018": element("UI", item.uid),
        "00100010": name_element(who.name),
        "00100020": element("LO", who.patient_id),
        "00100021": element("LO", who.issuer),
        "00100030": element("DA", birth),
        "00100040": element("CS", who.sex),
        "0020000D": element("UI", who.study_uid),
        "00400400": element("LT", disclaimer),
        "00404005": element("DT", _time(item.ready_at)),
        "00404010": element("DT", _time(item.modified_at)),
        "00404018": _sequence(_code(*INTERPRETATION)),
        "00404021": _sequence(_input(item, base)),
        "00404041": element("CS", "READY"),
        "0040A370": _sequence(
            {"00080050": element("SH", who.accession_number), "0020000D": element("UI", who.study_uid)}
        ),
        "00741000": element("CS", item.state.value),
        "00741002": _sequence(_progress(item)),
        "00741200": element("CS", _priority(item)),
        "00741202": element("LO", WORKLIST),
        "00741204": element("LO", LABEL),
        "00741210": _sequence(*_findings(item, disclaimer)),
    }
    if item.started_at is not None:
        document["00741216"] = _sequence(_performed(item, item.started_at))
    return dict(sorted(document.items()))


def event_of(event: Event, *, disclaimer: str) -> Document:
    """Event report as a message of the channel (PS3.18 11.13, PS3.4 table CC.2.4-1)."""
    detail = event.detail
    document = {
        "00000002": element("UI", UPS_PUSH),
        "00000110": element("US", event.id % 65536),
        "00001000": element("UI", event.workitem_uid),
        "00001002": element("US", event.kind),
        "00400400": element("LT", disclaimer),
    }
    if "state" in detail:
        document |= {"00404041": element("CS", "READY"), "00741000": element("CS", detail["state"])}
    if "reason" in detail:
        document["00741238"] = element("LT", detail["reason"])
    if "percent" in detail:
        progress = {"00741004": element("DS", detail["percent"]), "00741006": element("ST", detail["text"])}
        document["00741002"] = _sequence(progress)
    if "performer" in detail:
        document["00404037"] = name_element(detail["performer"])
    return document


def _priority(item: Workitem) -> str:
    """What a person or an order said. What could not be judged is never LOW."""
    stated = next(name for name, priorities in PRIORITIES.items() if item.priority in priorities)
    return "MEDIUM" if stated == "LOW" and item.assessment is None else stated


def _input(item: Workitem, base: str) -> Document:
    """Where the study is: all of it, at this server."""
    address = f"{base}/studies/{item.identity.study_uid}"
    return {
        "0020000D": element("UI", item.identity.study_uid),
        "0040E020": element("CS", "DICOM"),
        "0040E025": _sequence({"00081190": element("UR", address)}),
    }


def _findings(item: Workitem, disclaimer: str) -> list[Document]:
    """What Vigil says, as content items; the words and codes are those of the reports."""
    from dicom_node.results import codes  # heavy, and only who asks for work items needs it
    from models.errors import Reason

    def code(concept: Any) -> Document:
        return _code(concept.value, concept.scheme_designator, concept.meaning)

    def text(concept: Any, words: str) -> Document:
        return {
            "0040A040": element("CS", "TEXT"),
            "0040A043": _sequence(code(concept)),
            "0040A160": element("UT", words),
        }

    def coded(concept: Any, value: Any) -> Document:
        return {
            "0040A040": element("CS", "CODE"),
            "0040A043": _sequence(code(concept)),
            "0040A168": _sequence(code(value)),
        }

    items = [text(codes.NOTICE, disclaimer)]
    if item.is_receiving:
        items.append(text(codes.NOTICE, LATE))
    if item.flag is not None:
        items.append(text(codes.NOTICE, FLAGS.get(item.flag, item.flag)))
    scored = item.assessment
    if scored is not None:
        items += [
            coded(codes.ASSESSMENT, codes.SCORED),
            {
                "0040A040": element("CS", "NUMERIC"),
                "0040A043": _sequence(code(codes.NORMALITY_PERCENTILE)),
                "0040A30A": element("DS", round(scored.percentile, 6)),
                "004008EA": _sequence(code(codes.PERCENT)),
            },
            text(
                codes.STATEMENT,
                f"Compared with {scored.reference_n} studies of {scored.reference_group}. Model "
                f"{scored.model.name} {scored.model.version} ({scored.model.sha256}), calibration "
                f"{scored.calibration_sha256}, run at {scored.run_at.isoformat()}.",
            ),
        ]
    elif item.study_state is State.NOT_ASSESSABLE:
        items += [coded(codes.ASSESSMENT, codes.NOT_ASSESSABLE), text(codes.STATEMENT, codes.NOT_ASSESSED)]
        if item.reason in {reason.value for reason in Reason}:
            items.append(coded(codes.REASON, codes.REASONS[Reason(item.reason)]))
    else:
        items += [coded(codes.ASSESSMENT, codes.FAILED), text(codes.STATEMENT, codes.NOT_SCORED)]
    return items


def _progress(item: Workitem) -> Document:
    document: Document = {}
    if item.progress is not None:
        document["00741004"] = element("DS", item.progress)
    if item.progress_text:
        document["00741006"] = element("ST", item.progress_text)
    if item.state is WorkState.CANCELED:
        document["00741238"] = element("LT", item.cancel_reason)
        if item.ended_at is not None:
            document["00404052"] = element("DT", _time(item.ended_at))
    return document


def _performed(item: Workitem, started_at: datetime) -> Document:
    """What is required before the end, filled by us: who, from when to when, and what."""
    performed = {
        "00400244": element("DA", started_at.strftime("%Y%m%d")),
        "00404019": _sequence(_code(*INTERPRETATION)),
        "00404033": {"vr": "SQ"},
        "00404035": _sequence({"00404037": name_element(item.performer or "")}),
        "00404050": element("DT", _time(started_at)),
    }
    if item.ended_at is not None:
        performed["00404051"] = element("DT", _time(item.ended_at))
    return performed


def _code(value: str, scheme: str, meaning: str) -> Document:
    return {
        "00080100": element("SH", value),
        "00080102": element("SH", scheme),
        "00080104": element("LO", meaning),
    }


def _sequence(*items: Document) -> Document:
    return {"vr": "SQ", "Value": list(items)}


def _time(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S.%f") + "+0000"
