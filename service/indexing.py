"""The index that DICOMweb searches, filled for what was here before: from spool, packs and results."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from dicom_node.errors import UnreadableInstanceError
from dicom_node.keys import read_header
from dicom_node.web.listing import Listing, read_listing
from service.errors import StorageError
from service.holdings import Holdings
from service.store import Store, dicom_index, identities, unlisted
from service.store.held import Held
from service.store.unlisted import Unlisted

AT_ONCE = 200  # instances in one transaction

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """How many instances are found from now on, and how many cannot be read."""

    listed: int
    unreadable: int


def index(store: Store, holdings: Holdings) -> Indexed:
    """List every instance in hand that is not; running it again changes nothing.

    Raises
    ------
    StorageAwayError
        If the store does not answer.
    """
    results = _walk(store, holdings, unlisted.results, _note_result)
    received = _walk(store, holdings, unlisted.received, _note_received)
    return Indexed(
        listed=results.listed + received.listed, unreadable=results.unreadable + received.unreadable
    )


def _walk(
    store: Store,
    holdings: Holdings,
    ask: Callable[..., tuple[Unlisted, ...]],
    note: Callable[[Session, Holdings, Unlisted], None],
) -> Indexed:
    after = listed = unreadable = 0
    while True:
        with store.transaction() as session:
            found = ask(session, after=after, limit=AT_ONCE)
            for one in found:
                try:
                    note(session, holdings, one)
                    listed += 1
                except (OSError, StorageError, UnreadableInstanceError) as error:
                    unreadable += 1
                    log.warning("instance not listed", study=one.held.study_key, reason=type(error).__name__)
        if not found:
            return Indexed(listed=listed, unreadable=unreadable)
        after = found[-1].id


def _note_result(session: Session, holdings: Holdings, one: Unlisted) -> None:
    dicom_index.note_result(session, one.study_id, one.id, _listing(holdings, one.held))


def _note_received(session: Session, holdings: Holdings, one: Unlisted) -> None:
    """List it and, where nobody knows yet whom its study is about, say that too."""
    key = one.held.study_key
    listing = _listing(holdings, one.held)
    if identities.lacking(session, [key]):
        with holdings.local(one.held) as path:
            identities.note(session, key, identities.stated(read_header(path)))
    dicom_index.note_received(session, key, {str(one.held.file_name): listing})


def _listing(holdings: Holdings, held: Held) -> Listing:
    with holdings.local(held) as path, path.open("rb") as file:
        return read_listing(file)
