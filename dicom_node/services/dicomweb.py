"""DICOMweb, asking side: STOW-RS, QIDO-RS and WADO-RS (PS3.18 10) to a peer's base address.

Objects go out and come in as the bytes they are; nothing is parsed and written again on the way (I2, I4). The
addresses hold UIDs, so neither they nor an error's own text are ever logged or passed on (I9).
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from dicom_node.calls import CHUNK, Site, document_of, http_error
from dicom_node.errors import (
    DeliveryError,
    DestinationBusyError,
    DestinationRefusedError,
    SopClassRefusedError,
)
from dicom_node.multipart import DICOM_TYPE, PartReader, boundary_of
from dicom_node.peer import Peer

JSON_TYPE: Final = "application/dicom+json"
PAGE = 1000  # rows asked for at once

STUDY_UID, SERIES_UID, SOP_INSTANCE_UID = "0020000D", "0020000E", "00080018"
SERIES_INSTANCES, ACCESSION_NUMBER = "00201209", "00080050"
FAILED_SEQUENCE, FAILURE_REASON = "00081198", "00081197"

# Failure Reason of STOW-RS (PS3.18 table I.2-2).
CLASS_NOT_SUPPORTED = 0x0122
TEMPORARY = (0x0110, 0x0213)
OUT_OF_RESOURCES = range(0xA700, 0xA800)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPeer(Site):
    """A peer's DICOMweb services."""

    @classmethod
    def of(cls, peer: Peer) -> "WebPeer":
        """Services of a peer.

        Raises
        ------
        ValueError
            If the peer has no URL; the peers file does not allow it for this protocol.
        """
        if peer.url is None:
            raise ValueError(f"peer {peer.name} has no url")
        return cls(
            url=peer.url.rstrip("/"),
            authorization=peer.authorization,
            timeouts=peer.timeouts,
            certificate=peer.certificate,
        )

    def check(self) -> None:
        """Ask for one study.

        Raises
        ------
        DeliveryError
            If the peer does not answer as it should.
        """
        self._search("/studies", {"limit": "1"})

    def store(self, path: Path) -> int:
        """Send one Part 10 file by STOW-RS; return the HTTP status of success.

        Raises
        ------
        DestinationBusyError
            If it may be taken later.
        DestinationRefusedError
            If it will not be taken.
        """
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: {DICOM_TYPE}\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; type="{DICOM_TYPE}"; boundary={boundary}',
            "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
            "Accept": JSON_TYPE,
        }
        with self.call("POST", "/studies", headers=headers, content=_message(head, path, tail)) as answer:
            failure = _failure(document_of(answer))
            if answer.status_code in {httpx.codes.OK, httpx.codes.ACCEPTED} and failure is None:
                return answer.status_code
            raise _store_error(answer.status_code, failure)

    def holds_instance(self, *, study_uid: str, series_uid: str, sop_instance_uid: str) -> bool:
        """Whether the peer holds one instance.

        Raises
        ------
        DeliveryError
            If it does not say.
        """
        rows = self._search(
            f"/studies/{study_uid}/series/{series_uid}/instances", {"SOPInstanceUID": sop_instance_uid}
        )
        return any(_value(row, SOP_INSTANCE_UID) == sop_instance_uid for row in rows)

    def series_counts(self, study_uid: str) -> Mapping[str, int]:
        """How many instances the peer holds of each series of a study, by Series Instance UID.

        Raises
        ------
        DeliveryError
            If it does not say.
        """
        rows = self._search(f"/studies/{study_uid}/series", {"includefield": SERIES_INSTANCES})
        return {
            str(_value(row, SERIES_UID)): int(count)
            for row in rows
            if (count := _value(row, SERIES_INSTANCES)) is not None and _value(row, SERIES_UID)
        }

    def studies_of(self, accession_number: str) -> tuple[str, ...]:
        """Study Instance UIDs the peer knows under an accession number.

        Raises
        ------
        DeliveryError
            If it does not say.
        """
        rows = self._search(
            "/studies", {"AccessionNumber": accession_number, "includefield": ACCESSION_NUMBER}
        )
        return tuple(
            str(uid)
            for row in rows
            if (uid := _value(row, STUDY_UID)) and _value(row, ACCESSION_NUMBER) == accession_number
        )

    def search_studies(self, query: Mapping[str, str]) -> Iterator[str]:
        """Study Instance UIDs that match a query (QIDO-RS, PS3.18 10.6), page by page.

        Raises
        ------
        DeliveryError
            If the peer does not say.
        """
        known: set[str] = set()
        while True:
            page = {**query, "limit": str(PAGE), "offset": str(len(known))}
            with self.call("GET", "/studies", headers={"Accept": JSON_TYPE}, query=page) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return
                if answer.status_code not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
                    raise http_error(answer.status_code)
                found = document_of(answer)
            if not isinstance(found, list):
                raise DestinationRefusedError("The peer's answer to a search is no DICOM JSON.")
            new = dict.fromkeys(str(uid) for row in found if (uid := _value(row, STUDY_UID)))
            fresh = [uid for uid in new if uid not in known]
            known.update(fresh)
            yield from fresh
            if not fresh:  # the end; or a peer that ignores the offset answers the same again
                return

    def retrieve_study(self, study_uid: str) -> Iterator[tuple[str, bytes]]:
        """Instances of a study by WADO-RS, as they come: the events of `PartReader`.

        Raises
        ------
        DeliveryError
            If the peer does not send them, or stops in between.
        MalformedMessageError
            If its answer is no multipart message.
        """
        # Any transfer syntax: the bytes are kept as the archive holds them.
        headers = {"Accept": f'multipart/related; type="{DICOM_TYPE}"; transfer-syntax=*'}
        with self.call("GET", f"/studies/{study_uid}", headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                raise http_error(answer.status_code)
            reader = PartReader(boundary_of(answer.headers.get("Content-Type", "")))
            for chunk in answer.iter_bytes(CHUNK):
                for kind, content in reader.feed(chunk):
                    yield kind, content if isinstance(content, bytes) else content.encode()
            reader.close()

    def _search(self, path: str, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        limit = int(query.get("limit", PAGE))
        while True:
            page = {**query, "limit": str(limit), "offset": str(len(rows))}
            with self.call("GET", path, headers={"Accept": JSON_TYPE}, query=page) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return rows
                if answer.status_code not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
                    raise http_error(answer.status_code)
                found = document_of(answer)
            if not isinstance(found, list):
                raise DestinationRefusedError("The peer's answer to a search is no DICOM JSON.")
            known = {json.dumps(row, sort_keys=True) for row in rows}
            new = [row for row in found if json.dumps(row, sort_keys=True) not in known]
            rows += new  # a peer that ignores the offset answers the same again
            if len(found) < limit or not new or "limit" in query:
                return rows


def _message(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
    yield tail


def _value(row: Mapping[str, Any], tag: str) -> Any:
    """First value of an attribute in DICOM JSON (PS3.18 F.2), None where there is none."""
    attribute = row.get(tag) if isinstance(row, Mapping) else None
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    return values[0] if isinstance(values, list) and values else None


def _failure(document: Any) -> int | None:
    """Failure Reason of the first failed instance in a STOW-RS answer; None where none failed."""
    item = _value(document, FAILED_SEQUENCE) if isinstance(document, Mapping) else None
    if item is None:
        return None
    reason = _value(item, FAILURE_REASON)
    return reason if isinstance(reason, int) else TEMPORARY[0]


def _store_error(status: int, failure: int | None) -> DeliveryError:
    if failure is None:
        return http_error(status)
    if failure == CLASS_NOT_SUPPORTED:
        return SopClassRefusedError("The destination does not accept this SOP class.", failure)
    if failure in TEMPORARY or failure in OUT_OF_RESOURCES:
        return DestinationBusyError("The destination failed to process the object.", failure)
    return DestinationRefusedError(
        f"The destination refused the object with reason 0x{failure:04X}.", failure
    )
