import numpy as np

from models.images.contract import Equalise, ImageContract
from models.images.preparation import pictures_of, slice_positions
from models.images.sources import Source
from tests.models.images.folders import head


def source(count: int, *, is_stack: bool) -> Source:
    names = [f"s{i}" for i in range(count)]
    return Source(
        pixels=np.stack([head(32, 32, seed=i) * (i + 1) / count for i in range(count)])[:, None].astype(
            np.float32
        )
        / 255,
        is_stack=is_stack,
        patients=["p"] * count if is_stack else names,
        studies=["s"] * count if is_stack else names,
        labels=[0] * count,
        findings=[""] * count,
        split="val",
        roles=[None] * count,
    )


def test_positions_are_counted_over_the_slices_that_show_something() -> None:
    mask = np.zeros((7, 10, 10), dtype=np.bool_)
    mask[2:5] = True

    assert slice_positions(mask).tolist() == [-1, -1, -1, 0, 1, 1, 1]
    assert slice_positions(mask[:3]).tolist() == [0, 0, 0]  # one slice has no extent


def test_a_stack_shares_its_statistics_and_single_pictures_do_not() -> None:
    contract = ImageContract(size=(32, 32), steps=(Equalise(),))

    stack = pictures_of(source(3, is_stack=True), contract)
    single = pictures_of(source(3, is_stack=False), contract)

    assert stack[0].pixels.max() < stack[2].pixels.max()
    assert single[0].pixels.max() == single[2].pixels.max()


def test_a_batch_without_steps_is_prepared_as_one_by_one() -> None:
    contract = ImageContract(size=(20, 24))
    whole = source(3, is_stack=False)

    batch = pictures_of(whole, contract)

    assert [picture.study for picture in batch] == ["s0", "s1", "s2"]
    assert [picture.position for picture in batch] == [0, 0, 0]
    alone = pictures_of(source(1, is_stack=False), contract)[0]
    assert batch[0].pixels.shape == alone.pixels.shape == (1, 20, 24)


def test_the_slice_position_row_counts_every_slice() -> None:
    stack = pictures_of(source(3, is_stack=True), ImageContract(size=(32, 32)))

    assert [picture.covariates["slice_position"] for picture in stack] == [0, 0.5, 1]
