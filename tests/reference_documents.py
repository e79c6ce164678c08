"""Calibration documents of a few groups with known scores."""

from datetime import date

from models.documents import CalibrationDocument, Stratum
from models.groups import Group
from models.references import Reference

MODEL = "a" * 64
HERE = Group(
    modality="MR",
    body_part="BRAIN",
    sequence="T1",
    manufacturer="SIEMENS",
    model_name="SKYRA",
    age_band="40-59",
    site="north",
)
OLDER = HERE.model_copy(update={"age_band": "60-79"})
ELSEWHERE = HERE.model_copy(update={"manufacturer": "GE", "model_name": "SIGNA", "site": "south"})


def document(sizes: dict[Group, int], **more: object) -> CalibrationDocument:
    """A document with as many reference studies in each group as said, scored 0, 1, 2 and so on."""
    content = {
        "version": 1,
        "model_sha256": MODEL,
        "made_on": date(2026, 3, 4),
        "author": "a physicist",
        "reason": "commissioning",
        "least": 20,
        "strata": tuple(
            Stratum(group=group, scores=tuple(map(float, range(n))), maxima=tuple(map(float, range(n))))
            for group, n in sizes.items()
        ),
    }
    return CalibrationDocument.model_validate(content | more)


def found(made: CalibrationDocument, group: Group = HERE) -> Reference:
    reference = made.reference(group)
    assert reference is not None
    return reference
