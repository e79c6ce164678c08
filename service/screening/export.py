"""A cohort without whom it is about: tables and maps under pseudonyms that are new at every export.

What is written is a short list of what may be: numbers, our own codes, hashes of models and calibrations.
Keys, UIDs, dates, descriptions and every other text of the images stay here, and so do the pixels of the
sources: whoever asks for those needs the de-identification of PS3.15 annex E, and no library for it is here.
"""

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import structlog

from service.errors import SettingsError, StorageError
from service.screening import tables
from service.screening.findings import Ranked, finding_rows, ranked, row_of
from service.store import Store, audit, cohort_results
from service.store.cohorts import Cohort
from service.store.objects import LocalObjects
from service.study import DISCLAIMER

MODALITIES = frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "US", "XA", "XC"})
OTHER = "other"
AT_A_TIME = 100  # maps asked for
MAPS = 1000
PSEUDONYM_BYTES = 10
NOTES = (
    "Study pseudonyms were made for this export and are kept nowhere else.",
    "Groups are numbered; their words, which may name a site or a scanner, are left out.",
    "Heatmaps are anomaly maps on the grid of the scored series, NIfTI-1, 0 to 1, without source pixels.",
    "A map may follow the outline of what was imaged.",
    "Source images are not part of an export.",
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    studies: int
    maps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """Writes exports.

    Attributes
    ----------
    store : Store
    objects : LocalObjects
        Where the maps are.
    folder : Path
        New, or empty.
    maps : int
        Of the most unusual studies.
    """

    store: Store
    objects: LocalObjects
    folder: Path
    maps: int = MAPS

    def write(self, cohort: Cohort, *, actor: str) -> Exported:
        """Write tables, maps and what they are.

        Raises
        ------
        SettingsError
            If something lies in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise SettingsError("--out is not empty. An export goes into a folder of its own.")
        studies = 0
        wanted: list[tuple[str, str]] = []
        groups: dict[str, str] = {}
        with (
            self.store.transaction() as session,
            tables.tables(
                (self.folder / "ranked", tables.RANKED), (self.folder / "findings", tables.FINDINGS)
            ) as (rows, objects),
        ):
            for item in ranked(session, cohort.id, cohort.q):
                pseudonym = secrets.token_hex(PSEUDONYM_BYTES)
                if item.rank is not None and len(wanted) < self.maps:
                    wanted.append((item.result.mark, pseudonym))
                bare = _bare(item, pseudonym, groups)
                rows.add(row_of(bare))
                for finding in finding_rows(bare):
                    objects.add(finding)
                studies += 1
        maps = self._copy_maps(wanted)
        about = {
            "disclaimer": DISCLAIMER,
            "studies": studies,
            "maps": maps,
            "q": cohort.q,
            "groups": len(groups),
            "notes": NOTES,
        }
        (self.folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        with self.store.transaction() as session:
            audit.append(
                session, "cohort.exported", actor=actor, cohort=cohort.id, studies=studies, maps=maps
            )
        return Exported(studies=studies, maps=maps)

    def _copy_maps(self, wanted: list[tuple[str, str]]) -> int:
        folder = self.folder / "heatmaps"
        folder.mkdir()
        copied = 0
        for batch in _batches(wanted):
            with self.store.transaction() as session:
                stored = cohort_results.maps_of(session, [key for key, _ in batch])
            for key, pseudonym in batch:
                if key not in stored:
                    continue
                file = stored[key]
                try:
                    with self.objects.local(file.path, file.sha256, file.bytes) as path:
                        shutil.copyfile(path, folder / f"{pseudonym}.nii.gz")
                except (OSError, StorageError) as error:
                    log.warning("map cannot be read", study=key, error=type(error).__name__)
                else:
                    copied += 1
        return copied


def _bare(item: Ranked, pseudonym: str, groups: dict[str, str]) -> Ranked:
    """Return a row with nothing in it that came from the images as text."""
    result = item.result
    group = result.reference_group
    if group:
        groups.setdefault(group, f"group {len(groups) + 1}")
    modality = result.modality if result.modality in MODALITIES else OTHER if result.modality else ""
    return replace(
        item,
        result=replace(
            result,
            mark=pseudonym,
            modality=modality,
            reference_group=groups.get(group, ""),
            run_at=None,
        ),
    )


def _batches(wanted: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    waiting = iter(wanted)
    while batch := list(islice(waiting, AT_A_TIME)):
        yield batch
