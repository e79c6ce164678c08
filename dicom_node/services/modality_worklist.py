"""Modality Worklist, asking side (PS3.4 K.6): the urgency of the order behind an accession number."""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom.sop_class import ModalityWorklistInformationFind

from dicom_node.line import Line
from dicom_node.services.query import find

# Requested Procedure Priority (0040,1003), most urgent first (PS3.3 C.4.11).
PRIORITIES = ("STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW")


def ordered_priority(line: Line, accession_number: str) -> str | None:
    """Highest Requested Procedure Priority of an order; None where there is no order, or it states none.

    Parameters
    ----------
    line : Line
    accession_number : str

    Raises
    ------
    DeliveryError
        As `dicom_node.services.query.find`.
    """
    step = Dataset()
    step.Modality = ""
    step.ScheduledProcedureStepStartDate = ""
    keys = Dataset()
    keys.AccessionNumber = accession_number
    keys.RequestedProcedurePriority = ""
    keys.RequestedProcedureID = ""
    keys.ScheduledProcedureStepSequence = DicomSequence([step])
    found = {
        str(match.get("RequestedProcedurePriority", "")).strip().upper()
        for match in find(line, keys, model=ModalityWorklistInformationFind)
        # A worklist that does not match by accession number answers with every order it has.
        if str(match.get("AccessionNumber", "")).strip() == accession_number
    }
    return next((priority for priority in PRIORITIES if priority in found), None)
