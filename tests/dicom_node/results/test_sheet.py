import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless, SecondaryCaptureImageStorage

from dicom_node.results.canvas import Layout
from dicom_node.results.sheet import Sheet


def decoded(frame: bytes, layout: Layout) -> np.ndarray:
    """Pixels of a compressed frame, by pydicom's decoders."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = RLELossless
    dataset = FileDataset("", Dataset(), file_meta=meta)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = layout.height, layout.width
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = encapsulate([frame])
    return dataset.pixel_array


@pytest.mark.parametrize("seed", range(4))
def test_pieces_make_the_whole_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = Layout(
        panel_height=int(rng.integers(1, 40)), panel_width=int(rng.integers(1, 300)), zoom=1 + seed % 2
    )
    template = rng.integers(0, 3, (layout.height, layout.width, 3)).astype(np.uint8)  # with long runs
    left = rng.integers(0, 3, (layout.panel_height, layout.panel_width)).astype(np.uint8)
    right = rng.integers(0, 256, (*left.shape, 3)).astype(np.uint8)
    is_coloured = rng.random(layout.panel_height) < 0.5
    title = rng.integers(0, 256, (layout.top, layout.width, 3)).astype(np.uint8)

    picture = decoded(Sheet.of(template, layout).compress(title, left, right, is_coloured), layout)

    expected = template.copy()
    expected[: layout.top] = title
    panels = slice(layout.top, layout.top + layout.panel_height)
    expected[panels, : layout.right_panel] = 0
    expected[panels, layout.margin : layout.margin + layout.panel_width] = left[..., np.newaxis]
    shown = np.where(is_coloured[:, np.newaxis, np.newaxis], right, left[..., np.newaxis])
    expected[panels, layout.right_panel : layout.right_panel + layout.panel_width] = shown
    np.testing.assert_array_equal(picture, expected)
