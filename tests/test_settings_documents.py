import pytest

from service.settings import Settings
from tests.settings_documents import CHART_SCHEMA, TABLE, chart_schema, chart_settings, settings_table

REMEDY = "run: python -m tests.settings_documents"


def test_the_page_of_settings_says_what_the_settings_are() -> None:
    assert TABLE.read_text(encoding="utf-8") == settings_table(), REMEDY


def test_the_chart_takes_the_settings_there_are() -> None:
    assert CHART_SCHEMA.read_text(encoding="utf-8") == chart_schema(), REMEDY


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_told_in_a_sentence(name: str) -> None:
    description = Settings.model_fields[name].description

    assert description
    assert description.endswith(".")


def test_a_setting_that_may_be_unset_keeps_its_type_in_the_chart() -> None:
    assert chart_settings()["properties"]["model"]["type"] == "string"
