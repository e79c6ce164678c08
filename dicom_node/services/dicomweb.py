"""DICOMweb, asking side: STOW-RS, QIDO-RS and WADO-RS (PS3.18 10) to a peer's base address.

Objects go out and come in as the bytes they are; nothing is parsed and written again on the way (I2, I4). The
addresses hold UIDs, so neither they nor an error's own text are ever logged or passed on (I9).
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from dicom_node.certificates import context_for, demand_certificate
from dicom_node.errors import (
    DeliveryError,
    DestinationBusyError,
    DestinationRefusedError,
    NotOfferedError,
    SopClassRefusedError,
)
from dicom_node.multipart import DICOM_TYPE, PartReader, boundary_of
from dicom_node.peer import Certificate, Peer, Timeouts

JSON_TYPE: Final = "application/dicom+json"
CHUNK = 1024 * 1024
LONGEST_ANSWER = 32 * 1024 * 1024  # bytes of JSON; some ten thousand rows
PAGE = 1000  # rows asked for at once

STUDY_UID, SERIES_UID, SOP_INSTANCE_UID = "0020000D", "0020000E", "00080018"
SERIES_INSTANCES, ACCESSION_NUMBER = "00201209", "00080050"
FAILED_SEQUENCE, FAILURE_REASON = "00081198", "00081197"

# Failure Reason of STOW-RS (PS3.18 table I.2-2).
CLASS_NOT_SUPPORTED = 0x0122
TEMPORARY = (0x0110, 0x0213)
OUT_OF_RESOURCES = range(0xA700, 0xA800)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPeer:
    """A peer's DICOMweb services.

    Attributes
    ----------
    url : str
        Base address.
    authorization : Path, optional
        File with the value of the header; read anew for each call, so it may be renewed.
    timeouts : Timeouts
    certificate : Certificate, optional
        Names our own and the authority of the peer's; unset, public authorities are believed.
    """

    url: str
    authorization: Path | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    certificate: Certificate | None = None

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
        with self._call("POST", "/studies", headers=headers, content=_message(head, path, tail)) as answer:
            failure = _failure(_document(answer))
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
        with self._call("GET", f"/studies/{study_uid}", headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                raise _http_error(answer.status_code)
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
            with self._call("GET", path, headers={"Accept": JSON_TYPE}, query=page) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return rows
                if answer.status_code not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
                    raise _http_error(answer.status_code)
                found = _document(answer)
            if not isinstance(found, list):
                raise DestinationRefusedError("The peer's answer to a search is no DICOM JSON.")
            known = {json.dumps(row, sort_keys=True) for row in rows}
            new = [row for row in found if json.dumps(row, sort_keys=True) not in known]
            rows += new  # a peer that ignores the offset answers the same again
            if len(found) < limit or not new or "limit" in query:
                return rows

    @contextmanager
    def _call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        content: Iterator[bytes] | None = None,
    ) -> Iterator[httpx.Response]:
        waits = httpx.Timeout(self.timeouts.answer_s, connect=self.timeouts.connect_s)
        try:
            given = dict(headers)
            if self.authorization is not None:
                given["Authorization"] = self.authorization.read_text(encoding="ascii").strip()
            verify = context_for(self.certificate) or True
            if not self.url.startswith("https:"):
                demand_certificate(None, self.certificate)
            # Not through a proxy of the environment: the peers file says where things go.
            with (
                httpx.Client(timeout=waits, trust_env=False, follow_redirects=False, verify=verify) as client,
                client.stream(
                    method,
                    self.url + path,
                    headers=given,
                    params=query,
                    content=content,
                    extensions={"trace": self._watch},
                ) as answer,
            ):
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The cause holds the address, and the address UIDs.
            raise DestinationBusyError(f"The peer did not answer ({type(error).__name__}).") from None
        except (OSError, UnicodeError) as error:
            raise DestinationBusyError(f"A file cannot be read ({type(error).__name__}).") from None

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Look at the peer's certificate after the handshake, before anything is sent."""
        if event != "connection.start_tls.complete":
            return
        stream = info["return_value"]
        try:
            demand_certificate(stream.get_extra_info("socket"), self.certificate)
        except DestinationRefusedError:
            stream.close()
            raise


def _message(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
    yield tail


def _document(answer: httpx.Response) -> Any:
    """JSON of an answer, None where it is something else; read up to a bound (I13)."""
    content = bytearray()
    for chunk in answer.iter_bytes(CHUNK):
        content += chunk
        if len(content) > LONGEST_ANSWER:
            raise DestinationRefusedError("The peer's answer is too long.")
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None


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
        return _http_error(status)
    if failure == CLASS_NOT_SUPPORTED:
        return SopClassRefusedError("The destination does not accept this SOP class.", failure)
    if failure in TEMPORARY or failure in OUT_OF_RESOURCES:
        return DestinationBusyError("The destination failed to process the object.", failure)
    return DestinationRefusedError(
        f"The destination refused the object with reason 0x{failure:04X}.", failure
    )


def _http_error(status: int) -> DeliveryError:
    """Error behind an HTTP status (PS3.18 table 8.5-1)."""
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        # A person renews the credentials, and nobody has to replay a study for it.
        return DestinationBusyError("The peer does not let us in: check its authorization file.", status)
    if status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS} or status >= 500:  # noqa: PLR2004 - server errors
        return DestinationBusyError(f"The peer answered with HTTP status {status}.", status)
    if status in {httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_ACCEPTABLE}:
        return NotOfferedError(f"The peer does not offer this: HTTP status {status}.", status)
    return DestinationRefusedError(f"The peer refused with HTTP status {status}.", status)
