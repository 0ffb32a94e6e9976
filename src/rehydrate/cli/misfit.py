"""Why bytes do not fit what they should be, as a sentence: msgspec and Pydantic say it in words for programmers."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
    "bytes": "bytes in base64",
    "uuid": "a UUID",
    "datetime": "a date with a time",
    "date": "a date",
    "time": "a time of day",
    "timedelta": "a length of time",
    "decimal": "a decimal number",
}

_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at (?P<in_key>`key` in )?`\$\.?(?P<path>.*)`)?$", re.DOTALL)
_GOT: Final = re.compile(r"^Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`$")
_LIMITED: Final = re.compile(r"^Expected `(?P<wanted>[^`]*)` (?P<limit>.+)$")
_MISSING: Final = re.compile(r"^Object missing required field `(?P<field>.*)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<field>.*)`$")
_NO_JSON: Final = re.compile(r"^JSON is malformed: (?P<why>.*) \(byte (?P<byte>\d+)\)$")


def why_misfit(error: Exception) -> str:
    """What is wrong, without the name of who found out."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return _why_invalid(str(error))
    if isinstance(error, msgspec.DecodeError):
        return _why_no_json(str(error))
    if type(error).__module__.startswith("pydantic"):
        return _why_no_model(error)
    return " ".join(str(error).split()) or type(error).__name__


def _why_invalid(message: str) -> str:
    found = _PLACE.match(message)
    assert found is not None
    what, path = found["what"], found["path"]
    place = f"a key of {path!r}" if found["in_key"] and path else "a key" if found["in_key"] else repr(path)
    subject = place if path or found["in_key"] else "it"
    if missing := _MISSING.match(what):
        return f"{subject} has no field {missing['field']!r}"
    if unknown := _UNKNOWN.match(what):
        return f"there is no field {_inside(path, unknown['field'])!r}"
    if wrong := _GOT.match(what):
        return f"{subject} must be {_in_words(wrong['wanted'])}, and is {_in_words(wrong['got'])}"
    if limited := _LIMITED.match(what):
        return f"{subject} must be {_in_words(limited['wanted'])} {limited['limit'].replace('`', '')}"
    plain = what.replace("`", "'")
    return f"{subject}: {plain}" if subject != "it" else plain


def _inside(path: str | None, field: str) -> str:
    return f"{path}.{field}" if path else field


def _in_words(types: str) -> str:
    return " or ".join(_WORDS.get(each, each) for each in types.split(" | "))


def _why_no_json(message: str) -> str:
    if found := _NO_JSON.match(message):
        return f"it is no JSON: {found['why']} at byte {found['byte']}"
    if "truncated" in message:
        return "it is no JSON: it ends too early"
    return f"it is no JSON: {message}"


def _why_no_model(error: Any) -> str:
    try:
        found = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]
    except (AttributeError, KeyError, TypeError):
        return " ".join(str(error).split())
    return "; ".join(f"{path!r}: {message}" if path else str(message) for path, message in found)
