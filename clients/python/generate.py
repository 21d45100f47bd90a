"""Writes the typed part of the client from the description of the API (OpenAPI 3.1): `shapes.py`, a TypedDict for each
shape, and `operations.py`, a method for each operation, once for programs that wait and once for asyncio.

    python generate.py ../../maps/openapi.json src/geocrm_client
"""

from __future__ import annotations

import json
import keyword
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Schema = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
HEADERS = {"idempotency-key": "str", "if-match": "int | str", "last-event-id": "str", "if-none-match": "str"}
WIDTH = 116


class Shapes:
    """TypedDicts, made as they are met; the same name is one shape."""

    def __init__(self, document: Schema) -> None:
        self.schemas: dict[str, Schema] = document["components"]["schemas"]
        self.written: dict[str, str] = {}
        for name, schema in self.schemas.items():
            self.type_of(schema, class_name(name))

    def type_of(self, schema: Schema, name: str) -> str:
        """The annotation of a schema; objects become TypedDicts, those without a name of their own by `name`."""
        if "$ref" in schema:
            return class_name(schema["$ref"].rpartition("/")[2])
        if "const" in schema:
            return f"Literal[{schema['const']!r}]"
        if "enum" in schema:
            return f"Literal[{', '.join(map(repr, schema['enum']))}]"
        if options := schema.get("anyOf") or schema.get("oneOf"):
            numbers = [str(n) if n else "" for n in range(len(options))]
            return either(self.type_of(part, name + n) for part, n in zip(options, numbers, strict=True))
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return either(self.type_of(schema | {"type": kind}, name) for kind in kinds)
        if kinds == "array":
            items = schema.get("items")
            return f"list[{self.type_of(items, name) if items else 'Any'}]"
        if kinds == "object":
            return self._object(schema, name)
        if schema.get("contentMediaType") or schema.get("format") == "binary":
            return "Upload"
        return PLAIN.get(str(kinds), "Any")

    def _object(self, schema: Schema, name: str) -> str:
        if not schema.get("properties"):
            more = schema.get("additionalProperties")
            return f"dict[str, {self.type_of(more, name + 'Value') if isinstance(more, dict) else 'Any'}]"
        needed = set(schema.get("required", ()))
        fields = {}
        for key, part in schema["properties"].items():
            kind = self.type_of(part, name + class_name(key))
            fields[key] = (kind if key in needed else f"NotRequired[{kind}]", part.get("description"))
        if all(key.isidentifier() and not keyword.iskeyword(key) for key in fields):
            lines = [f"class {name}(TypedDict):", *docstring(schema.get("description", ""), 4)]
            for key, (kind, said) in fields.items():
                lines += [f"    {key}: {kind}", *docstring(said or "", 4)]
        else:  # a key such as `from` is no name in Python
            inner = ", ".join(f'"{key}": {kind!r}' for key, (kind, _) in fields.items())
            lines = [f'{name} = TypedDict("{name}", {{{inner}}})', *docstring(schema.get("description", ""), 0)]
        made = "\n".join(lines)
        if self.written.setdefault(name, made) != made:
            raise SystemExit(f"two shapes are both called {name}")
        return name

    def module(self) -> str:
        """The text of shapes.py."""
        head = (
            '"""What is sent and answered, as dictionaries with known keys. Written by generate.py."""\n\n'
            "from __future__ import annotations\n\nfrom typing import Any, Literal, NotRequired, TypedDict\n\n"
            "Upload = tuple[str, bytes]\n"
            '"""The name of a file and what is in it."""\n'
        )
        return "\n\n".join([head, *(text + "\n" for text in self.written.values())])


class Operation:
    """One operation, read."""

    def __init__(self, path: str, method: str, told: Schema, shapes: Shapes) -> None:
        self.path, self.method, self.told = path, method, told
        self.name: str = told["operationId"]
        parameters = told.get("parameters", [])
        self.in_path = [p["name"] for p in parameters if p["in"] == "path"]
        self.query = {p["name"]: p for p in parameters if p["in"] == "query"}
        self.headers = [p["name"].lower() for p in parameters if p["in"] == "header"]
        self.types = {
            name: shapes.type_of(p["schema"], class_name(self.name + "_" + name)) for name, p in self.query.items()
        }
        self.path_types = {p["name"]: shapes.type_of(p["schema"], "") for p in parameters if p["in"] == "path"}
        self.body: str | None = None
        for kind, content in told.get("requestBody", {}).get("content", {}).items():
            self.body = shapes.type_of(content["schema"], class_name(self.name) + "Body")
            self.sends = "form" if kind.startswith("multipart/") else "json"
        self.body_needed = told.get("requestBody", {}).get("required", False)
        self.answer, self.reads = self._answer(shapes)

    def _answer(self, shapes: Shapes) -> tuple[str, str]:
        """The annotation of what it answers, and how that is read."""
        kinds, reads = [], "nothing"
        for status, answer in self.told["responses"].items():
            if not status.startswith("2"):
                continue
            if not answer.get("content"):
                kinds.append("None")
            offered = answer.get("content", {})
            if "application/json" in offered:  # what this client asks for where there are others
                offered = {"application/json": offered["application/json"]}
            for media, content in offered.items():
                if media.endswith("json"):
                    kinds.append(shapes.type_of(content.get("schema", {}), class_name(self.name) + "Answer"))
                    reads = "json"
                elif media == "text/event-stream":
                    return "Iterator[str]", "lines"
                else:
                    kinds.append("bytes")
                    reads = "bytes"
        return either(kinds), reads

    def method_text(self, *, waits: bool) -> str:
        """Its method: plain, or `async`."""
        places = [f"{snake(name)}: {self.path_types[name]}" for name in self.in_path]
        if self.body:
            places.append(f"body: {self.body}" if self.body_needed else f"body: {self.body} | None = None")
        named = []
        for name, parameter in sorted(self.query.items(), key=lambda one: not one[1].get("required")):
            kind = self.types[name]
            if not parameter.get("required"):
                kind = kind if "None" in kind.split(" | ") else f"{kind} | None"
                named.append(f"{snake(name)}: {kind} = None")
            else:
                named.append(f"{snake(name)}: {kind}")
        named += [f"{snake(name)}: {HEADERS[name]} | None = None" for name in self.headers]
        inside = ["self", *places, *(["*", *named] if named else [])]
        begin = "def" if waits or self.reads == "lines" else "async def"
        answer = self.answer if waits else self.answer.replace("Iterator[str]", "AsyncIterator[str]")
        lines = [f"    {begin} {self.name}(", *(f"        {part}," for part in inside), f"    ) -> {answer}:"]
        said = [self.told.get("summary", ""), self.told.get("description", "")]
        said += [f"`{snake(n)}`: {p['description']}" for n, p in self.query.items() if p.get("description")]
        lines += docstring("\n\n".join(part for part in said if part), 8)
        address = re.sub(r"\{(\w+)\}", lambda found: f"{{quoted({snake(found[1])})}}", self.path)
        arguments = [repr(self.method.upper()), f'f"{address}"' if self.in_path else repr(address)]
        if self.query:
            arguments.append("query={" + ", ".join(f"{name!r}: {snake(name)}" for name in self.query) + "}")
        if self.headers:
            arguments.append("headers={" + ", ".join(f"{name!r}: {snake(name)}" for name in self.headers) + "}")
        if self.body:
            arguments.append(f"{self.sends}=body")
        if self.reads == "lines":
            lines.append(f"        return self._lines({', '.join(arguments)})")
        else:
            arguments.append(f"reads={self.reads!r}")
            call = f"{'' if waits else 'await '}self._ask({', '.join(arguments)})"
            lines += [f"        found: {self.answer} = {call}", "        return found"]
        return "\n".join(lines)


def operations(document: Schema, shapes: Shapes) -> str:
    """The text of operations.py."""
    found = [
        Operation(path, method, item[method], shapes)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    head = (
        '"""A method for each operation of the API. Written by generate.py."""\n\n'
        "from __future__ import annotations\n\n"
        "from collections.abc import AsyncIterator, Iterator\nfrom typing import Any, Literal\n\n"
        "from geocrm_client.connection import AsyncConnection, Connection, quoted\n"
        "from geocrm_client.shapes import *  # noqa: F403\n"
    )
    classes = []
    for name, base, waits, said in (
        ("Geocrm", "Connection", True, "geocrm over HTTP; a method for each operation."),
        ("AsyncGeocrm", "AsyncConnection", False, "geocrm over HTTP, for asyncio; a method for each operation."),
    ):
        methods = "\n\n".join(one.method_text(waits=waits) for one in found)
        classes.append(f'class {name}({base}):\n    """{said}"""\n\n{methods}\n')
    return "\n\n".join([head, *classes])


def class_name(name: str) -> str:
    """`Page_ShownOffer_` → PageShownOffer, `find_eligible_offers` → FindEligibleOffers."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name) if part)


def snake(name: str) -> str:
    """A name for an argument: `if-match` → if_match, `from` → from_."""
    made = re.sub(r"\W", "_", name)
    return made + "_" if keyword.iskeyword(made) or made in ("self", "body") else made


def either(kinds: Iterator[str] | list[str]) -> str:
    """A union, each part once, None last."""
    parts = list(dict.fromkeys(part for kind in kinds for part in split_union(kind)))
    if "Any" in parts:
        return "Any"
    parts.sort(key=lambda part: part == "None")
    return " | ".join(parts) or "None"


def split_union(kind: str) -> list[str]:
    """The parts of a union as this file writes it."""
    parts, depth, begin = [], 0, 0
    for at, sign in enumerate(kind):
        depth += (sign == "[") - (sign == "]")
        if sign == "|" and depth == 0:
            parts.append(kind[begin:at].strip())
            begin = at + 1
    return [*parts, kind[begin:].strip()]


def docstring(said: str, indent: int) -> list[str]:
    """Lines of a docstring; none for nothing."""
    if not said.strip():
        return []
    blank = " " * indent
    safe = said.replace("\\", "\\\\").replace('"""', "'''")
    paragraphs = [textwrap.wrap(part, WIDTH - indent) for part in safe.split("\n\n")]
    lines = [line for number, part in enumerate(paragraphs) for line in ([""] if number else []) + part]
    lines[0] = '"""' + lines[0]
    if len(lines) == 1 and not lines[0].endswith('"'):
        return [f'{blank}{lines[0]}"""']
    return [*(f"{blank}{line}".rstrip() for line in lines), f'{blank}"""']


def write(description: Path, folder: Path) -> list[Path]:
    """Write both modules into a folder; their paths."""
    document = json.loads(description.read_text(encoding="utf-8"))
    shapes = Shapes(document)
    methods = operations(document, shapes)  # names the shapes that stand nowhere else, too
    written = {folder / "shapes.py": shapes.module(), folder / "operations.py": methods}
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return list(written)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
