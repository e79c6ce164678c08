"""One HTTP call to a configured address: bounded waits, no redirects, certificates looked at first.

Addresses may hold UIDs, so neither they nor an error's own text are ever logged or passed on (I9).
"""

import json
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
)
from dicom_node.peer import Certificate, Timeouts

CHUNK: Final = 1024 * 1024
LONGEST_ANSWER: Final = 32 * 1024 * 1024  # bytes of JSON; some ten thousand rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An HTTP service under a base address.

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

    @contextmanager
    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        content: Iterator[bytes] | bytes | None = None,
    ) -> Iterator[httpx.Response]:
        """Make one call; its answer is read by the caller, and bounded by it.

        Raises
        ------
        DestinationBusyError
            If nothing answers, or a file cannot be read.
        DestinationRefusedError
            If another certificate is shown than is demanded.
        """
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


def document_of(answer: httpx.Response) -> Any:
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


def http_error(status: int) -> DeliveryError:
    """Error behind an HTTP status (PS3.18 table 8.5-1)."""
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        # A person renews the credentials, and nobody has to replay a study for it.
        return DestinationBusyError("The peer does not let us in: check its authorization file.", status)
    if status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS} or status >= 500:  # noqa: PLR2004 - server errors
        return DestinationBusyError(f"The peer answered with HTTP status {status}.", status)
    if status in {httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_ACCEPTABLE}:
        return NotOfferedError(f"The peer does not offer this: HTTP status {status}.", status)
    return DestinationRefusedError(f"The peer refused with HTTP status {status}.", status)
