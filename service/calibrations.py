"""Which calibration is in force, asked in the transaction of whoever needs it.

So nobody goes on with an old one: a decision holds for the next study that is queued and for the next attempt
that begins.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from models.documents import SiteCalibration
from service.store import calibrations

MOST_KEPT = 4  # Documents at hand: that of now, and those of models beside it.


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What a study is scored against.

    Attributes
    ----------
    calibrated : SiteCalibration
        Without a document the artefact's own calibration serves.
    config_digest : str
        SHA-256 over everything besides the model that shapes a result, this calibration included.
    """

    calibrated: SiteCalibration
    config_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrations:
    """The calibrations of a site.

    Attributes
    ----------
    site : str
        What the site calls itself in a group.
    configuration : mapping
        Everything besides model and calibration that shapes a result; JSON values.
    """

    site: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    _kept: dict[str, SiteCalibration] = field(default_factory=dict, init=False, repr=False)

    def in_force(self, session: Session, model_sha256: str) -> InForce:
        """Return what a model's studies are scored against from now on."""
        sha256 = calibrations.sha256_in_force(session, model_sha256)
        return InForce(calibrated=self._of(session, sha256), config_digest=self._digest(sha256))

    def config_digest(self, session: Session, model_sha256: str) -> str:
        """Return the digest alone; no document is read."""
        return self._digest(calibrations.sha256_in_force(session, model_sha256))

    def _of(self, session: Session, sha256: str | None) -> SiteCalibration:
        if sha256 is None:
            return SiteCalibration(site=self.site)
        found = self._kept.get(sha256)
        if found is None:
            found = SiteCalibration(document=calibrations.read(session, sha256), site=self.site)
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[sha256] = found
        return found

    def _digest(self, sha256: str | None) -> str:
        content = dict(self.configuration)
        if sha256 is not None:
            content |= {"calibration": sha256, "site": self.site}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
