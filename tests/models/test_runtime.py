import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.artefact import NETWORK
from models.catalogue import active_artefact
from models.errors import ArtefactError
from models.runtime import PREFERENCE, Session, choose_providers


def test_cpu_is_always_left_and_stands_last() -> None:
    assert choose_providers(())[-1] == "CPUExecutionProvider"
    assert choose_providers(PREFERENCE)[-1] == "CPUExecutionProvider"
    assert choose_providers(("NoSuchProvider",)) == ("CPUExecutionProvider",)


def test_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / NETWORK).write_bytes(b"not a network")

    with pytest.raises(ArtefactError, match=NETWORK):
        Session(tmp_path / NETWORK)


def test_runs_repeat_to_the_byte() -> None:
    artefact = active_artefact()
    session = Session(artefact.path / NETWORK, providers=("CPUExecutionProvider",))
    rows, columns = artefact.manifest.input.shape[1:]
    slices = np.random.default_rng(0).random((3, len(artefact.manifest.input.context), rows, columns))
    feeds = {"slices": slices.astype(np.float32), "position": np.zeros(3, np.float32)}

    first, second = session.run(feeds), session.run(feeds)

    assert all(np.array_equal(first[name], second[name]) for name in session.outputs)


def test_loading_a_model_tells_nobody(tmp_path: Path) -> None:
    """ONNX Runtime reports its use to its maker by way of a file in the home folder, unless told not to."""
    program = (
        "from models.catalogue import active_artefact; from models.predictor import Predictor;"
        "Predictor.load(active_artefact())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}

    subprocess.run(
        [sys.executable, "-c", program], env=environment | {"HOME": str(tmp_path)}, check=True, timeout=60
    )

    assert list(tmp_path.rglob("*")) == []
