"""A small reader of Mapbox vector tiles (points only), so that tests do not trust the writer's own library."""

import struct
from collections.abc import Iterator
from typing import Any


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(data):
        tag = varint()
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            yield number, varint()
        elif kind == 2:
            size = varint()
            yield number, data[at : at + size]
            at += size
        elif kind == 1:
            yield number, data[at : at + 8]
            at += 8
        else:
            yield number, data[at : at + 4]
            at += 4


def _varints(data: bytes) -> list[int]:
    made, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            made.append(value)
            value = shift = 0
    return made


def _value(data: bytes) -> Any:
    for number, value in _fields(data):
        if number == 1:
            return value.decode()
        if number in (2, 3):
            return struct.unpack("<f" if number == 2 else "<d", value)[0]
        if number == 7:
            return bool(value)
        if number == 6:
            return (value >> 1) ^ -(value & 1)
        return value
    return None


def read(tile: bytes) -> dict[str, list[dict[str, Any]]]:
    """Features of each layer: properties, with the first point of the geometry as `_x`, `_y` in tile units."""
    layers: dict[str, list[dict[str, Any]]] = {}
    for number, layer in _fields(tile):
        if number != 3:
            continue
        name, keys, values, features = "", [], [], []
        for part, content in _fields(layer):
            if part == 1:
                name = content.decode()
            elif part == 2:
                features.append(content)
            elif part == 3:
                keys.append(content.decode())
            elif part == 4:
                values.append(_value(content))
        made = layers.setdefault(name, [])
        for feature in features:
            parts = dict(_fields(feature))
            tags = _varints(parts.get(2, b""))
            properties = {keys[tags[i]]: values[tags[i + 1]] for i in range(0, len(tags), 2)}
            geometry = _varints(parts[4])
            properties["_x"], properties["_y"] = ((v >> 1) ^ -(v & 1) for v in geometry[1:3])
            made.append(properties)
    return layers
