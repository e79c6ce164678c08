"""Artefacts of picture models small enough to compute by hand, made without torch."""

from datetime import date
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from models.artefact import CALIBRATION, CARD, NETWORK, PictureManifest, SeriesRules, Training, write_manifest
from models.calibration import calibrate_pictures
from models.images.contract import ImageContract

SIZE = (16, 16)
SCORES = (0.1, 0.2, 0.3)  # Of three reference people.
HIGHEST = 0.4  # Value of the map that no reference person exceeds.


def write_network(
    path: Path,
    *,
    channels: int = 1,
    size: tuple[int, int] = SIZE,
    extra: tuple[str, ...] = (),
    per_batch: bool = False,
    grey: float = 0.5,
) -> None:
    """Distance from grey inside the mask as a map, its highest value as the picture's score.

    Parameters
    ----------
    path : Path
    channels : int
        Of the input; the map looks at the first.
    size : tuple of int
    extra : tuple of str
        Operators without inputs, such as ``RandomNormal``, whose output is added to the map.
    per_batch : bool
        Scores are taken over the batch, as no network should.
    grey : float
        What counts as usual.
    """
    nodes = [
        helper.make_node("Slice", ["x", "first", "second", "axis"], ["first_channel"]),
        helper.make_node("Sub", ["first_channel", "usual"], ["signed"]),
        helper.make_node("Abs", ["signed"], ["apart"]),
        helper.make_node("Mul", ["apart", "mask"], ["inside"]),
    ]
    last = "inside"
    for number, operator in enumerate(extra):
        nodes.append(helper.make_node(operator, [], [f"extra{number}"], shape=[1, 1, *size]))
        nodes.append(helper.make_node("Add", [last, f"extra{number}"], [f"sum{number}"]))
        last = f"sum{number}"
    nodes += [
        helper.make_node("Identity", [last], ["pixel_score"]),
        helper.make_node("ReduceMax", [last, "everywhere"], ["highest"], keepdims=0),
        helper.make_node("Mul", ["position", "nothing"], ["unmoved"]),
        helper.make_node("Add", ["highest", "unmoved"], ["image_score"]),  # As many scores as positions.
    ]
    graph = helper.make_graph(
        nodes,
        "grey",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, *size]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", 1, *size]),
            helper.make_tensor_value_info("position", TensorProto.FLOAT, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("image_score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("pixel_score", TensorProto.FLOAT, ["batch", 1, *size]),
        ],
        [
            helper.make_tensor("first", TensorProto.INT64, [1], [0]),
            helper.make_tensor("second", TensorProto.INT64, [1], [1]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("usual", TensorProto.FLOAT, [], [grey]),
            helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor(
                "everywhere",
                TensorProto.INT64,
                [4 if per_batch else 3],
                [0, 1, 2, 3] if per_batch else [1, 2, 3],
            ),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)


def write_artefact(folder: Path, *, study: str = "max", **network: Any) -> Path:
    """A whole artefact of format 2 around ``write_network``.

    Parameters
    ----------
    folder : Path
        Is made.
    study : str
        How slices become a study.
    **network
        As of ``write_network``.
    """
    folder.mkdir(parents=True)
    write_network(folder / NETWORK, **network)
    calibration = calibrate_pictures("three people", SCORES, [HIGHEST / 2, HIGHEST], made_on=date(2026, 1, 1))
    (folder / CALIBRATION).write_text(calibration.model_dump_json(indent=2))
    (folder / CARD).write_text("# Distance from grey\n")
    write_manifest(folder, manifest(study=study, size=network.get("size", SIZE)))
    return folder


def manifest(**changes: Any) -> PictureManifest:
    """The manifest of ``write_artefact``; files are filled in when it is written."""
    content = {
        "format": 2,
        "kind": "image",
        "name": "grey",
        "version": "0.1.0",
        "title": "Distance from grey",
        "method": "grey",
        "licence": "Apache-2.0",
        "disclaimer": "For tests.",
        "applicability": SeriesRules(
            modality="MR", body_parts=(), age_years=(0, 130), accepts_contrast=True, accepts_lossy=False
        ),
        "input": ImageContract(size=changes.pop("size", SIZE), fit="stretch"),
        "outputs": ("image_score", "pixel_score"),
        "study": "max",
        "training": Training(
            record="grey.yaml",
            record_sha256="0" * 64,
            seed=0,
            data="none",
            data_licence="CC0-1.0",
            subjects={"calibration": 3},
            software={},
        ),
        "files": {},
    }
    return PictureManifest.model_validate({**content, **changes})
