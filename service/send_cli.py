"""``vigil send``: DICOM files to a peer."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.terminal import EXIT_FAILED, AsJson, out, out_json, say


def send(
    host: str,
    port: int,
    paths: list[Path],
    aec: Annotated[str, typer.Option(help="Called AE title.")],
    aet: Annotated[str, typer.Option(help="Calling AE title.")] = "VIGIL-SEND",
    as_json: AsJson = False,
) -> None:
    """Send DICOM files by C-STORE; one row per instance with its status."""
    from dicom_node.scu import send_files

    files = sorted(
        file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()
    )
    if not files:
        say("vigil: No file lies there, nothing was sent. Name DICOM files, or folders of them.")
    rows: list[dict[str, Any]] = []
    for number, receipt in enumerate(
        send_files(files, host=host, port=port, calling_aet=aet, called_aet=aec)
    ):
        status = None if receipt.status is None else f"0x{receipt.status:04X}"
        rows.append({"file": receipt.path.name, "status": status, "stored": receipt.is_stored})
        if not as_json:
            out(f"{number + 1:5d}  {status or 'no answer':9s}  {receipt.path.name}")
    if as_json:
        out_json({"instances": rows})
    sys.exit(0 if rows and all(row["stored"] for row in rows) else EXIT_FAILED)
