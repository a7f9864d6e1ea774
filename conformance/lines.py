"""Files of JSON Lines, and what is wrong with them: read and checked line by line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jsonschema import Draft202012Validator

# Half of a pair. JSON can say it, and no encoding can write it.
_SURROGATE = re.compile("[\ud800-\udfff]")


class BrokenResults(Exception):
    """A file cannot be read; the message names it, and the line if there is one."""

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        super().__init__(path, line, problem)
        self.path = path
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.problem}"


def text_of(path: Path) -> str:
    """Read a file, once: a pipe has its text for one reader.

    Raises:
        BrokenResults: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenResults(path, None, f"cannot be read ({error})") from error


def split(text: str) -> list[str]:
    """Give the lines: Unicode has more ends of lines, which JSON may hold as text."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def writable(text: str) -> str:
    """Put a sign in the place of what no encoding can write."""
    return _SURROGATE.sub("\ufffd", text)


def dumped(content: Mapping[str, Any]) -> str:
    """Write one line, its end included."""
    return json.dumps(_writable(content)) + "\n"


def parsed(path: Path, number: int | None, line: str) -> dict[str, Any] | None:
    """Read one line, or a whole file of JSON; None if it is no object.

    Raises:
        BrokenResults: It is no JSON.
    """
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BrokenResults(path, number, f"is no JSON ({error})") from error
    return dict(_writable(content)) if isinstance(content, dict) else None


def check_format(path: Path, first: Mapping[str, Any], wanted: str) -> None:
    """Check that a file is of the format that is read here.

    Raises:
        BrokenResults: It says that it is of another.
    """
    found = first.get("format", wanted)
    if found != wanted:
        newer = str(found).rpartition("/")[0] == wanted.rpartition("/")[0]
        why = ": another version of aoti-conformance has made it" if newer else ""
        told = f"is of the format {found!r}, and {wanted!r} is read here{why}"
        raise BrokenResults(path, 1, told)


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Make what checks lines by a JSON schema: once for all of them."""
    from jsonschema import Draft202012Validator  # only readers need it

    return Draft202012Validator(schema)


def check(
    path: Path, number: int | None, content: Any, by: Draft202012Validator
) -> None:
    """Check a line.

    Raises:
        BrokenResults: It is not as the schema has it.
    """
    from jsonschema.exceptions import best_match  # only readers need it

    fault = best_match(by.iter_errors(content))
    if fault is not None:
        kind = content.get("kind", "") if isinstance(content, dict) else ""
        where = "/".join(str(part) for part in fault.absolute_path)
        place = " ".join(part for part in (kind, where) if part)
        raise BrokenResults(path, number, f"{place}: {fault.message}".lstrip(": "))


def _writable(content: Any) -> Any:
    text = json.dumps(content, ensure_ascii=False)
    clean = writable(text)
    return content if clean == text else json.loads(clean)
