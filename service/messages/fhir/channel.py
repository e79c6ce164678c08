"""One FHIR server that is told what happened: a transaction bundle by POST, which may come twice."""

import base64
import json
from urllib.parse import quote, urlencode

import httpx

from dicom_node.calls import Site, document_of, http_error
from dicom_node.channel import FhirChannel, OAuth
from dicom_node.errors import DeliveryError, DestinationBusyError, DestinationRefusedError
from service.messages.fhir.bundle import transaction
from service.messages.fhir.elements import CONTENT_TYPE
from service.messages.message import Message

LONGEST_TOKEN = 16 * 1024  # characters


class FhirSender:
    """One server.

    Parameters
    ----------
    channel : FhirChannel
    """

    names_patient = True

    def __init__(self, channel: FhirChannel) -> None:
        self._channel = channel
        self._site = Site(
            url=channel.url.rstrip("/"),
            authorization=channel.authorization,
            timeouts=channel.timeouts,
            certificate=channel.certificate,
        )

    def send(self, message: Message) -> str:
        """Send one message; return the HTTP status.

        Raises
        ------
        DestinationBusyError
            If it may be taken later, or no token is to be had.
        DestinationRefusedError
            If it will not be taken, or nothing says which study it is about.
        """
        identity = message.identity
        if identity is None or not identity.study_uid:
            raise DestinationRefusedError("Nothing says which study it is: its identity is no longer kept.")
        headers = {"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE, "Prefer": "return=minimal"}
        if self._channel.oauth is not None:
            headers["Authorization"] = f"Bearer {self._token(self._channel.oauth)}"
        content = json.dumps(
            transaction(message, identity), separators=(",", ":"), ensure_ascii=False
        ).encode()
        with self._site.call("POST", "", headers=headers, content=content) as answer:
            if not httpx.codes.is_success(answer.status_code):
                raise _error(answer.status_code)
            return str(answer.status_code)

    def _token(self, oauth: OAuth) -> str:
        """Access token by client credentials (RFC 6749 4.4), asked for anew so that none is ever stale."""
        try:
            secret = oauth.client_secret.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise DestinationBusyError(
                f"The client secret cannot be read ({type(error).__name__})."
            ) from None
        form = {"grant_type": "client_credentials"} | ({"scope": oauth.scope} if oauth.scope else {})
        pair = f"{quote(oauth.client_id, safe='')}:{quote(secret, safe='')}"  # RFC 6749 2.3.1
        site = Site(
            url=oauth.token_url, timeouts=self._channel.timeouts, certificate=self._channel.certificate
        )
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        with site.call("POST", "", headers=headers, content=urlencode(form).encode()) as answer:
            if answer.status_code != httpx.codes.OK:
                # Whatever it is, a person mends it at the server of tokens, and the message waits.
                raise DestinationBusyError(f"No token: HTTP status {answer.status_code}.", answer.status_code)
            document = document_of(answer)
        token = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN or not token.isascii():
            raise DestinationBusyError("The answer of the server of tokens holds none.")
        return token


def _error(status: int) -> DeliveryError:
    """Error behind a status; another transaction at the same moment (409) is over when it is tried again."""
    if status == httpx.codes.CONFLICT:
        return DestinationBusyError("The server is changing the same resources.", status)
    return http_error(status)
