"""What of a description of an API breaks those who use an older one.

A request that was right must stay right, and an answer must stay what its readers were promised. Compared are
paths, methods, parameters, bodies and answers, down to properties, types, enumerations, bounds, lengths and
patterns. Not compared: names of operations, descriptions, defaults, and new codes in an answer's enumeration,
which readers are told to expect.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]
METHODS = ("get", "put", "post", "delete", "patch")
LOWER, UPPER = (
    ("minimum", "exclusiveMinimum", "minLength", "minItems"),
    ("maximum", "exclusiveMaximum", "maxLength", "maxItems"),
)


def breaking(old: Schema, new: Schema) -> list[str]:
    """Return what breaks, one sentence each; none where every use of the old stays right."""
    comparison = _Comparison(old, new)
    return list(dict.fromkeys(comparison.paths()))


@dataclass
class _Comparison:
    old: Schema
    new: Schema
    seen: set[tuple[int, int, bool]] = field(default_factory=set)  # schemas that hold themselves

    def paths(self) -> Iterator[str]:
        after = {_unnamed(path): item for path, item in self.new["paths"].items()}
        for path, item in self.old["paths"].items():
            for method in METHODS:
                if method not in item:
                    continue
                where = f"{method.upper()} {path}"
                operation = after.get(_unnamed(path), {}).get(method)
                if operation is None:
                    yield f"{where}: is gone"
                else:
                    yield from self.parameters(where, item[method], operation)
                    yield from self.bodies(where, item[method], operation)
                    yield from self.answers(where, item[method], operation)

    def parameters(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = _parameters(old), _parameters(new)
        for key, parameter in before.items():
            if key not in after:
                yield f"{where}: parameter {key[1]} is gone"
                continue
            if after[key].get("required") and not parameter.get("required"):
                yield f"{where}: parameter {key[1]} is required"
            yield from self.narrowed(
                f"{where}: parameter {key[1]}", parameter["schema"], after[key]["schema"]
            )
        for key, parameter in after.items():
            if key not in before and parameter.get("required"):
                yield f"{where}: new parameter {key[1]} is required"

    def bodies(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = old.get("requestBody"), new.get("requestBody")
        if after and after.get("required") and not (before and before.get("required")):
            yield f"{where}: a body is required"
        if not before:
            return
        for kind, content in before["content"].items():
            if not after or kind not in after["content"]:
                yield f"{where}: takes no {kind}"
            else:
                yield from self.narrowed(
                    f"{where}: body", content.get("schema", {}), after["content"][kind].get("schema", {})
                )

    def answers(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        for status, answer in old["responses"].items():
            after = new["responses"].get(status)
            if after is None:
                yield f"{where}: answers {status} no more"
                continue
            for kind, content in answer.get("content", {}).items():
                if kind not in after.get("content", {}):
                    yield f"{where}: {status} is no {kind} any more"
                else:
                    yield from self.weakened(
                        f"{where}: {status}",
                        content.get("schema", {}),
                        after["content"][kind].get("schema", {}),
                    )

    def narrowed(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        """What a request may hold no more."""
        old, new = self.resolved(self.old, old), self.resolved(self.new, new)
        if self.is_repeated(old, new, is_request=True):
            return
        alternatives = _alternatives(new)
        for one in _alternatives(old):
            tries = [list(self.refused(where, one, other)) for other in alternatives]
            yield from min(tries, key=len)

    def refused(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        old, new = self.resolved(self.old, old), self.resolved(self.new, new)
        if "type" in new and old.get("type") not in {new["type"], *_within(new["type"])}:
            yield f"{where}: is no {old.get('type', 'value of any type')} any more"
            return
        if "enum" in new and not (_values(old) and set(_values(old)) <= set(_values(new))):
            yield f"{where}: takes fewer values"
        yield from _bounds(where, old, new)
        yield from self.properties_taken(where, old, new)
        if "items" in new:
            yield from self.narrowed(f"{where}[]", old.get("items", {}), new["items"])

    def properties_taken(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name in after:
                yield from self.narrowed(f"{where}.{name}", schema, after[name])
            elif new.get("additionalProperties") is False:
                yield f"{where}.{name}: is taken no more"
        for name in set(new.get("required", ())) - set(old.get("required", ())):
            yield f"{where}.{name}: is required"

    def weakened(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        """What an answer does not promise any more."""
        old, new = self.resolved(self.old, old), self.resolved(self.new, new)
        if self.is_repeated(old, new, is_request=False):
            return
        alternatives = _alternatives(old)
        for one in _alternatives(new):
            tries = [list(self.unpromised(where, other, one)) for other in alternatives]
            yield from min(tries, key=len)

    def unpromised(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        old, new = self.resolved(self.old, old), self.resolved(self.new, new)
        if "type" in old and new.get("type") not in {old["type"], *_within(old["type"])}:
            yield f"{where}: may be {new.get('type', 'of any type')}"
            return
        before, after = old.get("properties", {}), new.get("properties", {})
        promised = set(old.get("required", ()))
        for name, schema in before.items():
            if name not in after:
                yield f"{where}.{name}: is gone"
                continue
            if name in promised and name not in new.get("required", ()):
                yield f"{where}.{name}: may be missing"
            yield from self.weakened(f"{where}.{name}", schema, after[name])
        if "items" in old:
            yield from self.weakened(f"{where}[]", old["items"], new.get("items", {}))

    def resolved(self, document: Schema, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def is_repeated(self, old: Schema, new: Schema, *, is_request: bool) -> bool:
        """Whether a pair of schemas is being compared further out."""
        pair = (id(old), id(new), is_request)
        known = pair in self.seen and ("properties" in old or "anyOf" in old)
        self.seen.add(pair)
        return known


def _unnamed(path: str) -> str:
    return re.sub(r"{[^}]*}", "{}", path)


def _parameters(operation: Schema) -> dict[tuple[str, str], Schema]:
    """Parameters by place and name; of those in the path the order, not the name, counts."""
    found = {}
    for parameter in operation.get("parameters", ()):
        place, name = parameter["in"], parameter["name"]
        key = f"{len([1 for kind, _ in found if kind == 'path'])}" if place == "path" else name
        found[place, key] = parameter
    return found


def _alternatives(schema: Schema) -> list[Schema]:
    found = schema.get("anyOf") or schema.get("oneOf")
    return list(found) if found else [schema]


def _values(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _within(kind: str) -> tuple[str, ...]:
    """Types all of whose values are of a type too."""
    return ("integer",) if kind == "number" else ()


def _bounds(where: str, old: Schema, new: Schema) -> Iterator[str]:
    """Bounds that shut out what was let in."""
    for name in LOWER:
        if (
            name in new
            and new[name] > old.get(name, float("-inf"))
            and not (new[name] == 0 and "Length" in name)
        ):
            yield f"{where}: {name} is {new[name]}"
    for name in UPPER:
        if name in new and new[name] < old.get(name, float("inf")):
            yield f"{where}: {name} is {new[name]}"
    for name in ("pattern", "format"):
        if name in new and new[name] != old.get(name):
            yield f"{where}: {name} is {new[name]}"
    if "const" in new and _values(old) != [new["const"]]:
        yield f"{where}: takes {new['const']} alone"
