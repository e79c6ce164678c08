import pytest

pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.making.methods_page import INVENTORY, OPTIONAL, PAGE, page
from models.making.record import read_recipe, recipe_paths


def test_page_is_that_of_the_records() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m models.making.methods_page"


def test_every_method_of_the_inventory_has_a_record_or_is_optional() -> None:
    covered = {row for path in recipe_paths() for row in read_recipe(path).covers}

    assert set(INVENTORY) - covered <= set(OPTIONAL)
    assert covered <= set(INVENTORY)
