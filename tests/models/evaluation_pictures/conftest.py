"""A model of pictures made by hand: brightness is what it finds abnormal."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.artefact import PictureManifest, SeriesRules, Training, write_manifest
from models.evaluation.picture_baselines import Scorer, StudyScore
from models.images.contract import ImageContract
from models.images.picture import Picture
from tests.models.images.conftest import stack_folder as stack_folder  # noqa: PLC0414 - a fixture, shared
from tests.models.images.folders import head, write_table

SIDE = 32

MakePicture = Callable[..., Picture]


def _network(path: Path) -> None:
    """Pixels of the mask are the map, their mean is the score, half of the picture is the reconstruction."""
    shape = ["n", 1, SIDE, SIDE]
    nodes = [
        helper.make_node("Mul", ["x", "mask"], ["pixel_score"]),
        helper.make_node("ReduceMean", ["pixel_score", "axes"], ["image_score"], keepdims=0),
        helper.make_node("Mul", ["x", "half"], ["reconstruction"]),
    ]
    made = helper.make_graph(
        nodes,
        "brightness",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("position", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("image_score", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("pixel_score", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("reconstruction", TensorProto.FLOAT, shape),
        ],
        [
            numpy_helper.from_array(np.array([1, 2, 3], dtype=np.int64), "axes"),
            numpy_helper.from_array(np.array(0.5, dtype=np.float32), "half"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)


@pytest.fixture
def bright_artefact(tmp_path: Path) -> Callable[[int], Path]:
    """An artefact of a seed; all seeds score alike."""

    def make(seed: int = 0) -> Path:
        folder = tmp_path / f"bright-{seed}"
        folder.mkdir()
        _network(folder / "model.onnx")
        calibration = {
            "format": 1,
            "group": "heads of the test",
            "calibrated_on": "2026-01-01",
            "scores": [0.1, 0.2],
            "levels": {"picture": 1.0},
            "display_max": 1.0,
            "bands": [0.3, 0.5, 0.7],
            "band_rule": "chosen by hand",
        }
        (folder / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
        (folder / "MODEL_CARD.md").write_text("# bright\n", encoding="utf-8")
        manifest = PictureManifest(
            format=2,
            kind="image",
            name="bright",
            version="0.1.0",
            title="Brightness",
            method="b1-intensity",
            licence="test",
            disclaimer="test",
            applicability=SeriesRules(
                modality="MR", body_parts=(), age_years=(0, 120), accepts_contrast=True, accepts_lossy=True
            ),
            input=ImageContract(size=(SIDE, SIDE), mask="content"),
            outputs=("image_score", "pixel_score", "reconstruction"),
            study="max",
            training=Training(
                record="b1-intensity",
                record_sha256="0" * 64,
                seed=seed,
                data="heads",
                data_licence="test",
                subjects={"train": 4},
                software={},
            ),
            files={},  # Filled in as it is written.
        )
        write_manifest(folder, manifest)
        return folder

    return make


@pytest.fixture
def lesion_folder(tmp_path: Path) -> Path:
    """Ten heads, six to train on; two of the others have a white square of 64 pixels, outlined."""
    folder = tmp_path / "heads"
    folder.mkdir()
    rows = []
    for i in range(10):
        pixels, lesion = head(48, 40, seed=i), np.zeros((48, 40), dtype=np.uint8)
        if i >= 8:
            lesion[20:28, 16:24] = 255
            pixels = np.where(lesion > 0, 255, pixels).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"head-{i}.png")
        Image.fromarray(lesion).save(folder / f"head-{i}-lesion.png")
        rows.append(
            {
                "file": f"head-{i}.png",
                "patient": f"p{i}",
                "split": "train" if i < 6 else "val",
                "label": int(i >= 8),
                "finding": "square" if i >= 8 else "",
                "lesion": f"head-{i}-lesion.png",
            }
        )
    write_table(folder / "manifest.csv", rows)
    return folder


@pytest.fixture
def make_picture() -> MakePicture:
    """A picture of given pixels that is its own native grid."""

    def make(
        pixels: NDArray[np.float32], *, mask: NDArray[np.bool_] | None = None, **known: object
    ) -> Picture:
        values: dict[str, object] = {
            "patient": "p",
            "study": "s",
            "split": "val",
            "label": 0,
            "native_shape": pixels.shape,
            "grid": np.eye(3),
            **known,
        }
        inside = np.ones(pixels.shape, dtype=np.bool_) if mask is None else mask
        return Picture(pixels=pixels[None].astype(np.float32), mask=inside, **values)  # type: ignore[arg-type]

    return make


@pytest.fixture
def by_maximum() -> Scorer:
    """Brightness, and the brightest pixel of a slice."""

    def score(pictures: Sequence[Picture]) -> StudyScore:
        maps = np.stack([picture.pixels[0] * picture.mask for picture in pictures])
        slices = maps.max(axis=(1, 2)).astype(np.float64)
        return StudyScore(study=float(slices.max()), slices=slices, maps=maps)

    return score
