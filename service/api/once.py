"""Changes that are done once, and changes to what was on the screen.

``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a POST that is sent again is answered as the
first time. ``If-Match`` (RFC 9110 13.1.1): a change names the version it is made to.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, TypeVar, cast

from fastapi import Depends, Header, Request, Response
from sqlalchemy.orm import Session

from service.access import Caller
from service.api.dependencies import Parts, PartsOf
from service.api.problems import ProblemError
from service.api.schemas import Body
from service.store import answers

KEY_PATTERN = r"^[\x21-\x7e]{1,128}$"
REPLAYED: Final = "Idempotent-Replayed"
MOST_TAGS = 20
_TAG = re.compile(r'"([0-9]{1,9})"')

B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One change that a caller asks for.

    Attributes
    ----------
    parts : Parts
    caller : Caller
    key : str or None
        Idempotency key; None: the change is made as often as it is asked for.
    request : str
        Hash of method, address and body.
    response : Response
        Takes the headers of the answer.
    """

    parts: Parts
    caller: Caller
    key: str | None
    request: str
    response: Response

    def once(self, kind: type[B], do: Callable[[Session], B]) -> B:
        """Return the answer: made now, with the change in one transaction, or kept from the first time."""
        with self.parts.store.transaction() as session:
            if self.key is None:
                return do(session)
            kept = answers.claim(session, caller=self.caller.name, key=self.key, request=self.request)
            if kept is not None:
                self.response.headers[REPLAYED] = "true"
                return kind.model_validate(kept)
            answer = do(session)
            body = answer.model_dump(mode="json")
            answers.keep(session, caller=self.caller.name, key=self.key, body=body)
            return answer


async def _act(
    request: Request,
    response: Response,
    parts: PartsOf,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=KEY_PATTERN,
            description="Sent again within a day with the same body, the request is answered as before.",
        ),
    ] = None,
) -> Act:
    """Asynchronous for one reason: the body is hashed as it came."""
    asked = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    asked.update(await request.body())
    return Act(
        parts=parts,
        caller=cast("Caller", request.state.caller),  # as `require` found them
        key=idempotency_key,
        request=asked.hexdigest(),
        response=response,
    )


def refuse_idempotency_key(request: Request) -> None:
    """Refuse the header where the answer is a secret or an identity: Vigil does not keep those to repeat."""
    if request.method == "POST" and "idempotency-key" in request.headers:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "idempotency-key-not-taken",
            "This answer is not kept, so that it cannot be given again.",
            "Send the request without Idempotency-Key.",
        )


def versions(
    if_match: Annotated[str | None, Header(description='As `ETag` said, or "*".')] = None,
) -> frozenset[int] | None:
    """Return which versions a change may be made to; None: any.

    Raises
    ------
    ProblemError
        428 where nothing is named, 412 where no version of ours is.
    """
    if if_match is None:
        raise ProblemError(
            HTTPStatus.PRECONDITION_REQUIRED,
            "no-version",
            "The change does not say which version it is made to.",
            "Read it first, and send its ETag as If-Match.",
        )
    if if_match.strip() == "*":
        return None
    tags = (_TAG.fullmatch(tag.strip()) for tag in if_match.split(",", MOST_TAGS))
    return frozenset(int(tag[1]) for tag in tags if tag)  # weak tags never match (RFC 9110 8.8.3.2)


def tag(response: Response, version: int) -> None:
    """Name the version of an answer."""
    response.headers["ETag"] = f'"{version}"'


ActOf = Annotated[Act, Depends(_act)]
Versions = Annotated[frozenset[int] | None, Depends(versions)]
