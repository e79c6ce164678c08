import pytest

from service.errors import SettingsError
from service.settings import Settings, load_settings
from service.store import Store
from service.wiring import open_calibrations


@pytest.mark.postgres
def test_other_kinds_of_results_are_another_configuration(store: Store) -> None:
    with store.transaction() as session:
        digests = {
            open_calibrations(Settings(results=kinds)).config_digest(session, "m")
            for kinds in ("seg,sc,sr", "sr,sc,seg", "sr,pm")
        }
    assert len(digests) == 2  # order says nothing


@pytest.mark.parametrize("kinds", ["seg,sc", "heatmap,sr", ""])
def test_kinds_nobody_knows_and_a_missing_report_are_errors_that_name_the_setting(kinds: str) -> None:
    with pytest.raises(SettingsError, match="VIGIL_RESULTS"):
        load_settings(results=kinds)
