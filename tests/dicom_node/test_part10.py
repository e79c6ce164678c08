import io

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from dicom_node.elements import read_file_meta, text_of
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.keys import MEDIA_SOP_INSTANCE_UID, SOURCE_AET
from dicom_node.part10 import file_head


@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34", "1" * 64])
@pytest.mark.parametrize("sender", ["CT1", "CT12", "S" * 16])
def test_the_head_is_what_pydicom_writes(instance: str, sender: str) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    meta.SourceApplicationEntityTitle = sender
    expected = DicomBytesIO()
    expected.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(expected, meta)

    head = file_head(
        sop_class=MRImageStorage, sop_instance=instance, syntax=ExplicitVRLittleEndian, sender=sender
    )

    assert head == expected.getvalue()
    found = read_file_meta(io.BytesIO(head))
    assert (text_of(found, MEDIA_SOP_INSTANCE_UID), text_of(found, SOURCE_AET)) == (instance, sender)
