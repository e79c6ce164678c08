"""Addresses of the list: which filters one may hold, and the way from a form to a short one."""

from collections.abc import Mapping
from datetime import date, datetime, time
from urllib.parse import parse_qsl, urlencode

FILTERS = (
    "text", "band", "state", "modality", "sender", "priority", "model", "received_from", "received_to",
    "percentile_below", "seen", "assigned_to", "sort",
)  # fmt: skip
NOBODY = "nobody"  # what the form says for studies that are with nobody; in an address: an empty value
_DAYS = ("received_from", "received_to")


def address(given: Mapping[str, str]) -> str:
    """Address of the list for some parameters."""
    return f"/?{urlencode(given)}" if given else "/"


def tidy(form: Mapping[str, str]) -> dict[str, str]:
    """Parameters of an address for what the filter form says: what was left empty is left out.

    Days of this machine's zone become times; what is no day stays, and is refused where it is read.
    """
    kept = {name: form[name].strip() for name in FILTERS if form.get(name, "").strip()}
    if kept.get("assigned_to") == NOBODY:
        kept["assigned_to"] = ""
    if kept.get("sort") == "triage":
        del kept["sort"]
    for name in _DAYS:
        if name in kept:
            kept[name] = _midnight(kept[name])
    return kept


def known(query: str) -> dict[str, str]:
    """Filters of a query string; whatever else it holds is left out."""
    return {name: value for name, value in parse_qsl(query, keep_blank_values=True) if name in FILTERS}


def day(value: str) -> str:
    """Day of a time in an address, for the form; empty where it holds none."""
    return value[:10]


def inside(target: str) -> str:
    """Return a path of ours; whatever leads elsewhere leads to the list."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_path else "/"


def _midnight(value: str) -> str:
    try:
        found = date.fromisoformat(value)
    except ValueError:
        return value
    return datetime.combine(found, time()).astimezone().isoformat()
