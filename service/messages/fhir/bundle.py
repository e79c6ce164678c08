"""Bundle: a page of a search, and what is pushed in one transaction."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from dicom_node.channel import Event
from service.access import Identity
from service.messages.fhir import elements
from service.messages.fhir.diagnostic_report import diagnostic_report
from service.messages.fhir.elements import Json
from service.messages.fhir.imaging_study import imaging_study
from service.messages.fhir.observation import observation
from service.messages.fhir.task import task
from service.messages.message import Message
from service.store.reports import KnownStudy


def searchset(resources: Sequence[Json], *, base: str, here: str, onward: str | None) -> Json:
    """Write a page of a search.

    Parameters
    ----------
    resources : sequence
    base : str
        Address of the server's FHIR root.
    here, onward : str
        Addresses of this page and of the next; None: this is the last.
    """
    links = [{"relation": "self", "url": here}]
    if onward is not None:
        links.append({"relation": "next", "url": onward})
    entries = [
        {
            "fullUrl": f"{base}/{resource['resourceType']}/{resource['id']}",
            "resource": resource,
            "search": {"mode": "match"},
        }
        for resource in resources
    ]
    # FHIR knows no empty list.
    return {"resourceType": "Bundle", "type": "searchset", "link": links} | (
        {"entry": entries} if entries else {}
    )


def transaction(message: Message, identity: Identity) -> Json:
    """Write a happening as one transaction that may come twice.

    The study is made where the receiver does not have it: its archive may own it. What Vigil says of it is
    made or replaced, by the study's key.
    """
    report = message.report
    holds = message.event is not Event.SUPERSEDED
    known = KnownStudy(key=report.study_key, modality=report.modality, report=report)
    study = imaging_study(known, identity)
    uids = elements.study_uid(identity)
    mine = _token({"system": elements.KEYS, "value": report.study_key})
    said = [
        observation(report, identity, holds=holds),
        diagnostic_report(report, identity, holds=holds),
        task(report, identity),
    ]
    addresses = {f"{one['resourceType']}/{report.study_key}": _address(one) for one in (study, *said)}
    entries = [
        {
            "fullUrl": _address(study),
            "resource": _linked(study, addresses),
            "request": {
                "method": "POST",
                "url": "ImagingStudy",
                "ifNoneExist": f"identifier={_token(uids[0]) if uids else mine}",
            },
        }
    ]
    entries += [
        {
            "fullUrl": _address(one),
            "resource": _linked(one, addresses),
            "request": {
                "method": "PUT",
                "url": f"{one['resourceType']}?identifier={mine}",
            },
        }
        for one in said
    ]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "identifier": {"system": elements.MESSAGES, "value": message.message_id},
        "timestamp": elements.instant(message.told.happened_at),
        "entry": entries,
    }


def _address(resource: Json) -> str:
    """Name of a resource within its bundle: the same at every attempt."""
    name = f"urn:vigil:{resource['resourceType']}/{resource['id']}"
    return uuid.uuid5(uuid.NAMESPACE_URL, name).urn


def _linked(resource: Json, addresses: Mapping[str, str]) -> Json:
    """Return a resource that refers to others of its bundle, with no id: the receiver gives it one."""
    linked: Json = _renamed(resource, addresses)
    del linked["id"]
    return linked


def _renamed(value: Any, addresses: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: addresses.get(part, part)
            if name == "reference" and isinstance(part, str)
            else _renamed(part, addresses)
            for name, part in value.items()
        }
    return [_renamed(part, addresses) for part in value] if isinstance(value, list) else value


def _token(identifier: Mapping[str, str]) -> str:
    """Search value of an identifier, as a query may hold it."""
    return quote(f"{identifier['system']}|{identifier['value']}", safe=":")
