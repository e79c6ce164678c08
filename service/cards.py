"""Model cards by the hash of their model: of the models this machine knows."""

from dataclasses import dataclass, field
from pathlib import Path

from models.artefact import CARD, MANIFEST, file_sha256, identity_sha256, read_manifest
from models.catalogue import list_artefacts
from models.errors import ArtefactError
from service.active import ActiveModel

LONGEST = 256 * 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Finds the card of the model that scored a study, which need not be the one that serves now.

    Attributes
    ----------
    active : ActiveModel
        What serves, and next to what others lie.
    """

    active: ActiveModel
    _found: dict[str, str] = field(default_factory=dict)

    def of(self, model_sha256: str) -> str | None:
        """Markdown of the card; None where this machine has not that model, or its card was changed."""
        if model_sha256 not in self._found:
            for folder in self._folders():
                text = _card(folder, model_sha256)
                if text is not None:
                    self._found[model_sha256] = text
                    break
        return self._found.get(model_sha256)

    def _folders(self) -> list[Path]:
        """Artefacts of this machine: the one that serves, its neighbours, the shipped ones."""
        serving = self.active.folder()
        beside = (
            [] if serving is None else [serving, *list_artefacts(serving), *list_artefacts(serving.parent)]
        )
        return [*beside, *list_artefacts()]


def _card(folder: Path, model_sha256: str) -> str | None:
    try:
        manifest = read_manifest(folder / MANIFEST)
        if identity_sha256(manifest) != model_sha256:
            return None
        path = folder / CARD
        if path.stat().st_size > LONGEST or file_sha256(path) != manifest.files.get(CARD):
            return None
        return path.read_text(encoding="utf-8")
    except (ArtefactError, OSError, UnicodeDecodeError):
        return None
