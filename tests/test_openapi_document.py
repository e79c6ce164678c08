import json

from jsonschema import Draft202012Validator

from tests.openapi_changes import breaking
from tests.openapi_document import CURRENT, RELEASED, description

REMEDY = "run: python -m tests.openapi_document"


def test_the_committed_description_is_that_of_the_routes() -> None:
    assert CURRENT.read_text(encoding="utf-8") == description(), REMEDY


def test_nothing_that_was_released_is_broken() -> None:
    released = json.loads(RELEASED.read_text(encoding="utf-8"))
    assert breaking(released, json.loads(description())) == []


def test_every_schema_of_the_description_is_a_schema() -> None:
    document = json.loads(description())
    assert document["openapi"].startswith("3.1.")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_says_what_it_does_and_that_a_problem_may_come() -> None:
    document = json.loads(description())
    assert "Problem" in document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["description"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
