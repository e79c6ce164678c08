"""What stands in the Dockerfile, by its stages."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# What it begins with, and its text, of each stage.
STAGES = {
    name: (parent, body)
    for parent, name, body in re.findall(
        r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL
    )
}


def whole(stage: str) -> str:
    """Text of a stage with all it stands on."""
    parent, body = STAGES[stage]
    return (whole(parent) if parent in STAGES else "") + body


def asked(stage: str) -> str:
    """The Python with which a stage is asked how it is."""
    (command,) = re.findall(r"^ *CMD (\[.*\])$", STAGES[stage][1].split("HEALTHCHECK")[1], re.MULTILINE)[:1]
    program, option, script = json.loads(command)
    assert (program, option) == ("python", "-c")
    return str(script)
