"""What an artefact must show before it is trusted: whole, nothing drawn, every picture scored for itself."""

from pathlib import Path

import numpy as np

from models.artefact import NETWORK, Artefact, PictureArtefact, load_artefact
from models.errors import ArtefactError
from models.images.predictor import example_of
from models.predictor import load_predictor
from models.providers import CPU
from models.runner import Feeds
from models.runtime import PARITY, Session, difference, random_operators

PROBES = 3  # Pictures run together and alone.


def verify_artefact(path: Path) -> Artefact | PictureArtefact:
    """Check every byte of an artefact, load it and run its network on the CPU.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    Artefact or PictureArtefact
        The artefact, which passed.

    Raises
    ------
    ArtefactError
        Names the file and what is wrong with it.
    """
    found = load_artefact(path)
    network = path / NETWORK
    drawing = random_operators(network)
    if drawing:
        raise ArtefactError(network, f"draws random numbers ({', '.join(drawing)}); export it again")
    load_predictor(found, providers=(CPU,))
    _check_runs(network, _probes(found))
    return found


def _probes(found: Artefact | PictureArtefact) -> Feeds:
    """Noise in the shape of the artefact's inputs."""
    if isinstance(found, PictureArtefact):
        return example_of(found.manifest.input, count=PROBES)
    contract = found.manifest.input
    shape = (PROBES, len(contract.context), *contract.shape[1:])
    return {
        "slices": np.random.default_rng(0).random(shape, dtype=np.float32),
        "position": np.linspace(-1, 1, PROBES, dtype=np.float32),
    }


def _check_runs(network: Path, probes: Feeds) -> None:
    """The same input gives the same bytes, numbers, and each sample what it gets alone."""
    session = Session(network, providers=(CPU,))
    together, again = session.run(probes), session.run(probes)
    for name, values in together.items():
        if not np.isfinite(values).all():
            raise ArtefactError(network, f"gives no number for {name}; train it again")
        if values.tobytes() != again[name].tobytes():
            raise ArtefactError(network, f"gives another {name} each time; export it again")
    for i in range(PROBES):
        alone = session.run({name: values[i : i + 1] for name, values in probes.items()})
        # Kernels for one sample add in another order than kernels for many, hence no equality of bytes.
        for name, values in alone.items():
            if not difference({name: together[name][i : i + 1]}, {name: values}) <= PARITY:
                raise ArtefactError(network, f"gives {name} by what else is in the batch; export it again")
