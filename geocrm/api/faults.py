"""What is wrong with the shape of an input, in words that say what is expected."""

from collections.abc import Mapping
from typing import Any, Final

TIME: Final = "expected a time with its offset from UTC, such as 2026-01-31T09:00:00Z or 2026-01-31T10:00:00+01:00"
_TAG: Final = "small letters, digits, _ and -, a letter or digit first, 63 at most"
_KEY: Final = "letters, digits, _ and -, 60 at most, such as service"
_FORMS: Final = {
    "^[a-z0-9][a-z0-9_-]{0,62}$": f"{_TAG}, such as shops",
    "^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$": "letters, digits and . _ : ~ -, a letter or digit first, 200 at most,"
    " such as denver-1",
    "^[a-z0-9][a-z0-9_-]{0,62}/[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$": "a fence as its tag and external id, such as"
    f" shops/denver-1; a tag is {_TAG}",
    "^[a-z0-9][a-z0-9_-]*$": "small letters, digits, _ and -, a letter or digit first",
    "^[0-9]{2}:[0-9]{2}$": "a time of day, such as 09:00",
    "^lay_[A-Za-z0-9_-]{1,60}$": "the id of a layer, such as lay_sales",
    "^[A-Za-z0-9_-]{1,60}$": _KEY,
    r"^[\x21-\x7e]+$": "letters, digits and signs of ASCII without blanks, such as a UUID",
    r"^[^@\s]+@[^@\s]+$": "an e-mail address, such as ada@example.com",
    "^[A-Z]{2}$": "an ISO 3166-1 code of two capital letters, such as US",
    "^[A-Z]{3}$": "an ISO 4217 code of three capital letters, such as USD",
}
"""What a pattern asks for, by the pattern."""

_SENTENCES: Final = {
    "missing": "this is needed",
    "extra_forbidden": "there is no such field",
    "string_type": "expected a text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "the number is too large",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "decimal_type": "expected a number",
    "decimal_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "list_type": "expected a list [ … ]",
    "dict_type": "expected an object {{ … }}",
    "model_type": "expected an object {{ … }}",
    "model_attributes_type": "expected an object {{ … }}",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected at most {le:g}",
    "literal_error": "expected {expected}",
    "decimal_max_digits": "expected at most {max_digits} digits",
    "decimal_max_places": "expected at most {decimal_places} decimals",
    "decimal_whole_digits": "expected at most {whole_digits} digits before the point",
    "json_invalid": "this is no JSON from its character {at} on: {error}",
}


def of(fault: Mapping[str, Any]) -> str:
    """The sentence for a fault as pydantic tells it (`type`, `loc`, `msg`, `ctx`, `input`)."""
    kind, given, place = str(fault["type"]), fault.get("input"), fault["loc"]
    told: Mapping[str, Any] = fault.get("ctx") or {}
    message = str(fault["msg"])
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return f"expected {_FORMS.get(told['pattern'], 'the form ' + told['pattern'])}"
    if kind in ("string_too_short", "too_short", "string_too_long", "too_long"):
        of_what = "characters" if isinstance(given, str) else "entries"
        if "short" in kind and told["min_length"] == 1:
            return "this may not be empty"
        bound = f"at least {told['min_length']}" if "short" in kind else f"at most {told['max_length']}"
        return f"expected {bound} {of_what}" + (f", not {len(given)}" if isinstance(given, str | list) else "")
    if kind.startswith("datetime_"):
        return TIME
    if kind.startswith("date_"):
        return "expected a day, such as 2026-01-31"
    if kind in _SENTENCES:
        said = _SENTENCES[kind].format(**told, at=place[-1] if place else 0)
        if place and place[-1] == "lat" and isinstance(given, int | float) and 90 < abs(given) <= 180:
            said += ": perhaps lon and lat are exchanged"
        return said
    return message.replace("Input should be", "expected").replace("Input should have", "expected")
