import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.openapi_changes import breaking

STUDY: dict[str, Any] = {
    "type": "object",
    "required": ["key", "rank"],
    "properties": {
        "key": {"type": "string"},
        "rank": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Study"}},
    },
}
GIVE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["verdict"],
    "properties": {
        "verdict": {"type": "string", "enum": ["right", "wrong"]},
        "note": {"type": "string", "maxLength": 100},
        "slice": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
    },
}
OLD: dict[str, Any] = {
    "paths": {
        "/studies/{key}": {
            "get": {
                "parameters": [
                    {"in": "path", "name": "key", "required": True, "schema": {"type": "string"}},
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100}},
                ],
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Study"}}}
                    }
                },
            },
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Give"}}},
                },
                "responses": {"204": {}},
            },
        }
    },
    "components": {"schemas": {"Study": STUDY, "Give": GIVE}},
}
Change = Callable[[Any, Any, Any, Any], object]  # of GET, POST, Study and Give

BREAKS: dict[str, Change] = {
    "GET /studies/{key}: parameter limit is gone": lambda get, *_: get["parameters"].pop(),
    "GET /studies/{key}: parameter limit is required": lambda get, *_: get["parameters"][1].update(
        required=True
    ),
    "GET /studies/{key}: parameter limit: maximum is 50": lambda get, *_: get["parameters"][1][
        "schema"
    ].update(maximum=50),
    "GET /studies/{key}: parameter limit: is no integer any more": lambda get, *_: get["parameters"][
        1
    ].update(schema={"type": "string"}),
    "GET /studies/{key}: new parameter by is required": lambda get, *_: get["parameters"].append(
        {"in": "query", "name": "by", "required": True, "schema": {}}
    ),
    "GET /studies/{key}: answers 200 no more": lambda get, *_: get["responses"].update({"200": None}),
    "GET /studies/{key}: 200 is no application/json any more": lambda get, *_: get["responses"]["200"].update(
        content={"text/html": {}}
    ),
    "GET /studies/{key}: 200.key: is gone": lambda _, __, study, ___: study["properties"].pop("key"),
    "GET /studies/{key}: 200.key: may be missing": lambda _, __, study, ___: study["required"].remove("key"),
    "GET /studies/{key}: 200.key: may be null": lambda _, __, study, ___: study["properties"].update(
        key={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "GET /studies/{key}: 200.rank: may be number": lambda _, __, study, ___: study["properties"].update(
        rank={"type": "number"}
    ),
    "POST /studies/{key}: takes no application/json": lambda _, post, *__: post["requestBody"].update(
        content={"text/plain": {}}
    ),
    "POST /studies/{key}: body.note: is taken no more": lambda *all_: all_[3]["properties"].pop("note"),
    "POST /studies/{key}: body.note: maxLength is 99": lambda *all_: all_[3]["properties"]["note"].update(
        maxLength=99
    ),
    "POST /studies/{key}: body.note: pattern is ^a$": lambda *all_: all_[3]["properties"]["note"].update(
        pattern="^a$"
    ),
    "POST /studies/{key}: body.note: is required": lambda *all_: all_[3]["required"].append("note"),
    "POST /studies/{key}: body.verdict: takes fewer values": lambda *all_: all_[3]["properties"][
        "verdict"
    ].update(enum=["right"]),
    "POST /studies/{key}: body.slice: is no null any more": lambda *all_: all_[3]["properties"].update(
        slice={"type": "integer", "minimum": 0}
    ),
    "POST /studies/{key}: body.slice: minimum is 1": lambda *all_: all_[3]["properties"].update(
        slice={"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
    ),
}
GROWTH: dict[str, Change] = {
    "a property of an answer": lambda _, __, study, ___: study["properties"].update(age={"type": "integer"}),
    "a promise of an answer": lambda _, __, study, ___: study["required"].append("parts"),
    "an answer that says more exactly": lambda _, __, study, ___: study["properties"].update(
        rank={"type": "integer"}
    ),
    "a parameter that may be left out": lambda get, *_: get["parameters"].append(
        {"in": "query", "name": "by", "schema": {"type": "string"}}
    ),
    "another name in the path": lambda get, *_: get["parameters"][0].update(name="study"),
    "a property that may be left out": lambda *all_: all_[3]["properties"].update(by={"type": "string"}),
    "a value that is taken": lambda *all_: all_[3]["properties"]["verdict"]["enum"].append("unsure"),
    "a longer note": lambda *all_: all_[3]["properties"]["note"].update(maxLength=200),
    "a property that need not be given": lambda *all_: all_[3].update(required=[]),
    "another status": lambda get, *_: get["responses"].update({"202": {}}),
}


def changed(change: Change) -> dict[str, Any]:
    new = copy.deepcopy(OLD)
    path, schemas = new["paths"]["/studies/{key}"], new["components"]["schemas"]
    change(path["get"], path["post"], schemas["Study"], schemas["Give"])
    path["get"]["responses"] = {k: v for k, v in path["get"]["responses"].items() if v is not None}
    return new


@pytest.mark.parametrize("sentence", BREAKS)
def test_a_break_is_found_and_named(sentence: str) -> None:
    assert breaking(OLD, changed(BREAKS[sentence])) == [sentence]


@pytest.mark.parametrize("what", GROWTH)
def test_what_only_grows_breaks_nothing(what: str) -> None:
    assert breaking(OLD, changed(GROWTH[what])) == []


def test_an_unchanged_description_breaks_nothing() -> None:
    assert breaking(OLD, copy.deepcopy(OLD)) == []


def test_what_is_gone_is_named() -> None:
    new = copy.deepcopy(OLD)
    del new["paths"]["/studies/{key}"]["post"]
    assert breaking(OLD, new) == ["POST /studies/{key}: is gone"]
    assert breaking(OLD, {"paths": {}}) == ["GET /studies/{key}: is gone", "POST /studies/{key}: is gone"]


def test_a_path_whose_parameter_has_another_name_is_the_same_path() -> None:
    new = copy.deepcopy(OLD)
    new["paths"]["/studies/{study}"] = new["paths"].pop("/studies/{key}")
    assert breaking(OLD, new) == []


def test_a_body_where_none_was_needed_is_a_break() -> None:
    old = copy.deepcopy(OLD)
    del old["paths"]["/studies/{key}"]["post"]["requestBody"]
    assert breaking(old, OLD) == ["POST /studies/{key}: a body is required"]
