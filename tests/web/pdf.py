"""What does a PDF say? The text of its pages, by the fonts' own tables, so that a test reads what a reader sees."""

import io
import re

import pikepdf

_PAIRS = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>")
_RANGES = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>")


def text_of(body: bytes) -> list[str]:
    """The letters of every page in the order in which they are drawn; white space is left out, for it is not drawn."""
    with pikepdf.open(io.BytesIO(body)) as document:
        return [_page(page) for page in document.pages]


def packed(words: str) -> str:
    """Words as `text_of` has them."""
    return re.sub(r"\s+", "", words)


def _page(page: pikepdf.Page) -> str:
    fonts = {str(name): _table(font) for name, font in page.Resources.get("/Font", {}).items()}
    said, table = [], {}
    for instruction in pikepdf.parse_content_stream(page):
        operator = str(instruction.operator)
        if operator == "Tf":
            table = fonts[str(instruction.operands[0])]
        elif operator in ("Tj", "'", '"'):
            said.append(_letters(bytes(instruction.operands[-1]), table))
        elif operator == "TJ":
            parts = [part for part in instruction.operands[0] if isinstance(part, pikepdf.String)]
            said += [_letters(bytes(part), table) for part in parts]
    return packed("".join(said))


def _letters(codes: bytes, table: dict[int, str]) -> str:
    return "".join(table.get(int.from_bytes(codes[at : at + 2], "big"), "?") for at in range(0, len(codes), 2))


def _table(font: pikepdf.Object) -> dict[int, str]:
    """Glyph -> letters, of the font's ToUnicode map."""
    source = bytes(font.ToUnicode.read_bytes())
    found: dict[int, str] = {}
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", source, re.S):
        for glyph, letters in _PAIRS.findall(block):
            found[int(glyph, 16)] = bytes.fromhex(letters.decode()).decode("utf-16-be")
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", source, re.S):
        for low, high, first in _RANGES.findall(block):
            for step in range(int(high, 16) - int(low, 16) + 1):
                found[int(low, 16) + step] = chr(int(first, 16) + step)
    return found
