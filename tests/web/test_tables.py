"""Does a file of a table say every row, in few pieces, while the rows are read?"""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import cast

from app.exports.formats import PIECE
from app.web.tables import csv_file

NUMBER = 20_000


def test_a_file_is_sent_in_pieces_of_many_lines_while_its_rows_are_read():
    read = 0

    def rows() -> Iterator[Sequence[object]]:
        nonlocal read
        for read in range(1, NUMBER + 1):
            yield read, None, "=1+1", 'She said "no",\nand left', "-2.5", "größer", True

    pieces: list[str] = []
    seen: list[int] = []

    async def sent() -> None:
        async for piece in cast(AsyncIterator[str], csv_file("list", ("number", "@x", "b"), rows()).body_iterator):
            pieces.append(piece)
            seen.append(read)

    asyncio.run(sent())
    assert len(pieces) < NUMBER / 500
    assert max(map(len, pieces)) < 1.1 * PIECE
    assert 0 < seen[0] < NUMBER / 2, "no more in memory than a piece"
    heading, *lines = csv.reader(io.StringIO("".join(pieces), newline=""))
    assert heading == ["\ufeffnumber", "'@x", "b"]
    assert lines == [
        [str(number), "", "'=1+1", 'She said "no",\nand left', "-2.5", "größer", "True"]
        for number in range(1, NUMBER + 1)
    ]
    assert "".join(pieces).count("\r\n") == NUMBER + 1
