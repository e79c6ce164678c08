import pytest
from pydantic import ValidationError

from models.images.contract import Equalise, ImageContract, PercentileScale, Resize
from models.images.steps import STEPS


def test_a_contract_survives_being_written_and_read() -> None:
    contract = ImageContract(
        size=(32, 48), channels=2, context=(-1, 0, 1), steps=(Resize(), PercentileScale(low=2)), mask="tissue"
    )

    assert ImageContract.model_validate_json(contract.model_dump_json()) == contract
    assert contract.network_channels == 6


def test_a_step_is_read_by_its_name() -> None:
    contract = ImageContract.model_validate({"size": [32, 32], "steps": [{"step": "equalise", "bins": 64}]})

    assert contract.steps == (Equalise(bins=64),)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": [4, 32]}, "size"),
        ({"context": [1, 2]}, "context"),
        ({"context": [0, 0]}, "context"),
        ({"steps": [{"step": "sharpen"}]}, "sharpen"),
        ({"steps": [{"step": "percentile_scale", "low": 99, "high": 1}]}, "low 99"),
        ({"steps": [{"step": "resize"}, {"step": "resize"}]}, "resize once"),
        ({"colour": True}, "colour"),
    ],
)
def test_an_impossible_contract_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ImageContract.model_validate({"size": [32, 32], **change})


def test_every_step_of_the_contract_has_a_function() -> None:
    schema = ImageContract.model_json_schema()
    names = set(schema["properties"]["steps"]["items"]["discriminator"]["mapping"])

    assert names == set(STEPS)
