"""A list is read page by page there and back: everybody once, in order, and from every page both ways lead on."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, create_engine, insert, select
from sqlmodel import Session

from app.foundation.paging import Page, decode, every_page, page_by_number, page_of


def asked(numbers: list[int], size: int, cursor: str | None) -> Page[int]:
    """As a database answers a query for one row more than the page, from the cursor on, in the order of its way."""
    (after,), backwards = decode(cursor, 1, int) if cursor else ((-1,), False)
    there = [each for each in sorted(numbers) if (each < after if backwards else each > after)]
    found = (there[::-1] if backwards else there)[: size + 1]
    return page_of(found, size, lambda number: (number,), cursor=cursor, backwards=backwards)


@given(st.sets(st.integers(0, 10_000), max_size=40), st.integers(1, 7))
def test_pages_hold_everybody_once_there_and_back(numbers: set[int], size: int) -> None:
    there = [asked(list(numbers), size, None)]
    while (cursor := there[-1].next) is not None:
        there.append(asked(list(numbers), size, cursor))
    assert [each for page in there for each in page.rows] == sorted(numbers)
    assert list(every_page(lambda cursor: asked(list(numbers), size, cursor))) == there
    back = [there[-1]]
    while (cursor := back[-1].previous) is not None:
        back.append(asked(list(numbers), size, cursor))
        assert back[-1].next is not None, "one came from there"
    assert [each for page in reversed(back) for each in page.rows] == sorted(numbers)
    assert [list(page.rows) for page in reversed(back)] == [list(page.rows) for page in there]


NUMBERED = Table("numbered", MetaData(), Column("id", Integer, primary_key=True), Column("of", Integer))


@given(st.sets(st.integers(0, 10_000), max_size=40), st.integers(1, 7), st.booleans())
def test_a_query_is_read_by_its_numbers_there_and_back(numbers: set[int], size: int, falling: bool) -> None:
    engine = create_engine("sqlite://")
    NUMBERED.metadata.create_all(engine)
    query = select(NUMBERED.c.id.label("number")).where(NUMBERED.c.of == bindparam("whose"))
    with Session(engine) as session:
        if numbers:
            session.execute(insert(NUMBERED), [{"id": each, "of": each % 2} for each in numbers])

        def page(cursor: str | None) -> Page[Any]:
            asked: dict[str, Any] = {"cursor": cursor, "limit": size, "values": {"whose": 1}}
            return page_by_number(session, query, NUMBERED.c.id, falling=falling, named="number", **asked)

        there = list(every_page(page))
        back = [there[-1]]
        while (cursor := back[-1].previous) is not None:
            back.append(page(cursor))
    engine.dispose()
    wanted = sorted((each for each in numbers if each % 2), reverse=falling)
    assert [row.number for each in there for row in each.rows] == wanted
    assert [row.number for each in reversed(back) for row in each.rows] == wanted
    assert max(len(each.rows) for each in there) <= size


def test_what_is_made_of_rows_stands_at_the_same_place() -> None:
    page: Page[Any] = page_of([3, 4, 5], 2, lambda number: (number,), cursor="x", backwards=False, total=9)
    made = page.made(str)
    assert (made.rows, made.next, made.previous, made.total) == (["3", "4"], page.next, page.previous, 9)
    assert None not in (page.next, page.previous)
