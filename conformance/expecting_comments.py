"""Which entry of a file of known deviations a comment speaks of.

tomlkit hangs what stands between two tables on the first. A person means the table
below, unless a blank line comes between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomlkit.items import AoT, Comment, Table, Whitespace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomlkit import TOMLDocument


class Comments:
    """The comments between the tables of a document, taken out of it.

    Args:
        document: It keeps the comments inside of its tables.
    """

    def __init__(self, document: TOMLDocument) -> None:
        head = "".join(i.as_string() for k, i in document.body if k is None).strip()
        self.foot: list[str] = []
        self._above: dict[int, str] = {}
        tables = _tables(document)
        block, blank, last = head.rpartition("\n\n")
        # What is glued to the first table is of it, below a head of the file's own.
        below = _ends_at_table(document) and bool(blank)
        self.head = block.strip() if below else head
        above = last if below else ""
        for table in tables:
            if above:
                self._above[id(table)] = f"{above}\n"
            above = _taken(table, last=table is tables[-1])
        self.foot = [above] if above else []
        self._kept = tables  # else another table could get the id of one

    def above(self, table: Any) -> str:
        """The comment above `table`, ready to be put before it."""
        return self._above.get(id(table), "")


def _tables(document: TOMLDocument) -> list[Any]:
    found: list[Any] = []
    for key, item in document.body:
        if key is not None:
            found.extend(item if isinstance(item, AoT) else [item])
    return found


def _ends_at_table(document: TOMLDocument) -> bool:
    """Whether the last line before the first table is a comment."""
    before: list[Any] = []
    for key, item in document.body:
        if key is not None:
            break
        before.append(item)
    return bool(before) and isinstance(before[-1], Comment)


def _taken(table: Any, *, last: bool) -> str:
    """Take the comments off the end of `table` that speak of what is below it."""
    body = table.value.body
    while body and isinstance(body[-1][1], Table):
        body = body[-1][1].value.body
    start = len(body)
    while start and isinstance(body[start - 1][1], (Comment, Whitespace)):
        start -= 1
    ending: Sequence[tuple[Any, Any]] = body[start:]
    blanks = [
        number
        for number, (_, item) in enumerate(ending)
        if isinstance(item, Whitespace) and "\n" in item.as_string()
    ]
    first = blanks[0] if blanks else len(ending) if last else 0
    text = "".join(item.as_string() for _, item in ending[first:]).strip()
    del body[start + first :]
    return text
