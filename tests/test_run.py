import sys
from pathlib import Path

import pytest

from tests.run import Check, checks, run


def ends_with(code: int, said: str = "") -> Check:
    return Check(
        f"check {code}", (sys.executable, "-c", f"print({said!r}, flush=True); raise SystemExit({code})")
    )


def test_a_failed_check_ends_the_run_with_its_code_and_a_count(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    never = Check("never", (sys.executable, "-c", "open('ran', 'w')"))

    assert run([ends_with(0), ends_with(7), never], root=tmp_path) == 7

    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr().out.splitlines()[-1] == "0 passed, 0 failed, 0 skipped"


def test_the_last_line_is_what_the_tests_say(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([ends_with(0), ends_with(1, "3 passed, 1 failed")], root=tmp_path) == 1

    assert capfd.readouterr().out.splitlines()[-1] == "3 passed, 1 failed"


def test_a_check_that_asks_for_input_gets_none(tmp_path: Path) -> None:
    asks = Check("asks", (sys.executable, "-c", "import sys; sys.exit(len(sys.stdin.read()))"))

    assert run([asks, ends_with(0)], root=tmp_path) == 0


def test_long_tests_are_left_out_unless_asked_for() -> None:
    assert "not long" in checks(with_long=False)[-1].command
    assert "not long" not in checks(with_long=True)[-1].command
