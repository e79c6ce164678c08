import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.capacity import (
    JOBS_PER_WORKER,
    LOADS,
    SOURCES,
    SPREAD,
    UTILISATION,
    Costs,
    Load,
    Need,
    plan,
    simulate,
)
from service.cli import app
from service.errors import SettingsError
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
HOUR = Load(name="a department", studies_hour=500)


def test_the_simulation_waits_as_long_as_the_theory_says() -> None:
    """One place, times of any distribution: Pollaczek and Khinchine's mean wait."""
    rate, mean_s = 0.4, 1.0
    waits, whole = simulate(rate, [mean_s], [1])

    expected = rate * mean_s**2 * (1 + SPREAD**2) / (2 * (1 - rate * mean_s))
    assert waits.mean() == pytest.approx(expected, rel=0.15)
    assert (whole - waits).mean() == pytest.approx(mean_s, rel=0.05)


def test_with_places_for_everybody_nobody_waits_and_the_stations_add_up() -> None:
    waits, whole = simulate(1.0, [2.0, 3.0], [200, 200])

    assert waits.max() == 0.0
    assert whole.mean() == pytest.approx(5.0, rel=0.05)
    again, _ = simulate(1.0, [2.0, 3.0], [200, 200])
    assert np.array_equal(waits, again)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_a_plan_keeps_its_promise(load: Load) -> None:
    costs = Costs()
    need = plan(load, costs, wait_s=60)

    busy = load.studies_hour / 3600 * costs.work_s * load.scale / need.cores
    assert busy <= UTILISATION
    assert need.wait_s <= 60
    assert need.workers >= need.devices
    network_s = (costs.samples if load.samples is None else load.samples) / costs.device_samples_s
    in_hand = load.studies_hour / 3600 * (costs.work_s * load.scale + network_s)
    assert in_hand <= UTILISATION * need.workers * JOBS_PER_WORKER


def test_a_worker_has_as_many_studies_in_hand_as_the_plan_says() -> None:
    assert Settings.model_fields["infer_jobs"].default == JOBS_PER_WORKER


def test_ten_times_the_load_needs_about_ten_times_as_much() -> None:
    one, ten = (plan(replace(HOUR, studies_hour=rate), Costs(), wait_s=60) for rate in (5_000, 50_000))

    assert ten.cores == pytest.approx(10 * one.cores, rel=0.2)
    assert ten.received_gb_day == pytest.approx(10 * one.received_gb_day)


def test_who_may_not_wait_needs_more_processors_and_a_faster_device_is_one_less() -> None:
    patient, hurried = (plan(HOUR, Costs(), wait_s=wait_s) for wait_s in (60, 1))
    slow, fast = (
        plan(replace(HOUR, studies_hour=20_000), Costs(device_samples_s=rate), wait_s=60)
        for rate in (119.5, 1195.0)
    )

    assert hurried.cores > patient.cores
    assert fast.devices < slow.devices
    assert fast.cores == slow.cores


def test_every_input_says_where_it_comes_from() -> None:
    assert set(SOURCES) == {field.name for field in fields(Costs)}


def test_the_command_prints_the_plan_with_its_inputs(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps({"work_s": 7.5}))
    asked = ["capacity", "--studies-hour", "500", "--costs", str(file), "--json"]
    document = json.loads(CliRunner().invoke(app, asked).stdout)

    costs = Costs(work_s=7.5)
    assert document["costs"] == asdict(costs)
    assert document["loads"][0]["need"] == asdict(plan(HOUR, costs, wait_s=60))


def test_a_file_that_holds_no_costs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    for content in ("[]", '{"elsewhere": 1}', '{"work_s": "much"}', "{"):
        file.write_text(content)
        result = CliRunner().invoke(app, ["capacity", "--costs", str(file)])
        assert isinstance(result.exception, SettingsError)


def test_the_page_has_the_numbers_that_the_command_prints() -> None:
    page = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    needs = [plan(load, Costs(), wait_s=60) for load in LOADS]

    for field in fields(Need):
        values = [getattr(need, field.name) for need in needs]
        told = [f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" for value in values]
        assert f"| `{field.name}` | {' | '.join(told)} |" in page


@pytest.mark.parametrize("value", ["NaN", "Infinity", "0", "-1"])
@pytest.mark.parametrize("name", ["device_samples_s", "work_s"])
def test_costs_that_nothing_can_be_counted_with_are_refused_by_name(
    tmp_path: Path, name: str, value: str
) -> None:
    file = tmp_path / "costs.json"
    file.write_text(f'{{"{name}": {value}}}')

    told = CliRunner().invoke(app, ["capacity", "--costs", str(file)])

    assert isinstance(told.exception, SettingsError)
    assert name in str(told.exception)


@pytest.mark.parametrize("option", ["--studies-hour", "--wait-s", "--device-samples-s"])
def test_options_without_an_end_are_refused(option: str) -> None:
    told = CliRunner().invoke(app, ["capacity", option, "inf"])

    assert isinstance(told.exception, SettingsError)
