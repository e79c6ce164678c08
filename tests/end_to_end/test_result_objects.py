"""Every kind of result through an archive nobody here wrote, and back unchanged."""

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicom_node.results import ResultContext, build_results, encode
from dicom_node.results.label_map import LABEL_MAP_CLASS
from dicom_node.scu import Receipt, send_files
from tests.dicom_node.results.scenes import PHANTOM, context_of, enhanced, every_kind, radiograph
from tests.end_to_end.peers import MISSING, Orthanc, orthanc

pytestmark = [
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive") / "orthanc", UnknownSopClassAccepted=True) as running:
        yield running


SCENES = {
    "stack": lambda folder: context_of(folder, PHANTOM.datasets()),
    "enhanced": lambda folder: context_of(folder, [enhanced()]),
    "projection": lambda _: radiograph(),
}


@pytest.mark.parametrize("scene", SCENES)
def test_every_kind_comes_back_in_its_syntax_with_every_element(
    archive: Orthanc, tmp_path: Path, scene: str
) -> None:
    context = replace(SCENES[scene](tmp_path / "sources"), content_hash=scene)  # other content, other UIDs
    written = write_results(every_kind(context), tmp_path)
    assert all(receipt.is_stored for receipt in send(list(written), archive))
    for path, made in written.items():
        back = file_of(archive, made)
        assert data_set_of(back) == data_set_of(path.read_bytes())
        assert dcmread(io.BytesIO(back)).file_meta.TransferSyntaxUID == made.file_meta.TransferSyntaxUID


def test_the_second_time_changes_nothing(archive: Orthanc, tmp_path: Path) -> None:
    written = write_results(context_of(tmp_path / "sources", PHANTOM.datasets()), tmp_path)
    send(list(written), archive)
    before = sorted(archive.instances())
    assert all(receipt.is_stored for receipt in send(list(written), archive))
    assert sorted(archive.instances()) == before


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_compressed_kinds_keep_their_pixels_where_only_a_native_syntax_is_taken(
    tmp_path: Path, syntax: str
) -> None:
    """An archive that refuses RLE gets the same object decoded, under the same UID."""
    context = context_of(tmp_path / "sources", PHANTOM.datasets())
    written = write_results(every_kind(context), tmp_path)
    compressed = {p: m for p, m in written.items() if m.file_meta.TransferSyntaxUID == RLELossless}
    assert len(compressed) == 3
    with orthanc(
        tmp_path / "orthanc", UnknownSopClassAccepted=True, AcceptedTransferSyntaxes=[str(syntax)]
    ) as native:
        assert all(receipt.is_stored for receipt in send(list(compressed), native))
        for path, made in compressed.items():
            back = dcmread(io.BytesIO(file_of(native, made)))
            assert back.file_meta.TransferSyntaxUID == syntax
            np.testing.assert_array_equal(back.pixel_array, dcmread(path).pixel_array)


def test_an_archive_that_knows_no_label_maps_refuses_them_alone(tmp_path: Path) -> None:
    written = write_results(every_kind(context_of(tmp_path / "sources", PHANTOM.datasets())), tmp_path)
    with orthanc(tmp_path / "orthanc") as old:
        receipts = send(list(written), old)
    refused = [receipt for receipt in receipts if not receipt.is_stored]
    assert [str(dcmread(receipt.path).SOPClassUID) for receipt in refused] == [LABEL_MAP_CLASS]


def write_results(context: ResultContext, folder: Path) -> dict[Path, Dataset]:
    written = {}
    for result in build_results(context):
        path = folder / f"{result.kind}.dcm"
        path.write_bytes(encode(result.dataset))
        written[path] = result.dataset
    return written


def send(paths: list[Path], archive: Orthanc) -> list[Receipt]:
    return list(
        send_files(
            paths, host="127.0.0.1", port=archive.dicom_port, calling_aet="VIGIL", called_aet="ORTHANC"
        )
    )


def file_of(archive: Orthanc, made: Dataset) -> bytes:
    (found,) = (
        instance
        for instance in archive.instances()
        if archive.get(f"/instances/{instance}")["MainDicomTags"]["SOPInstanceUID"] == made.SOPInstanceUID
    )
    return archive.file(found)


def data_set_of(part_10: bytes) -> bytes:
    """Everything behind the file meta information, which is the archive's own (PS3.10 7.1)."""
    (length,) = struct.unpack_from("<I", part_10, 140)
    return part_10[144 + length :]
