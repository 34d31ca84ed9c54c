"""What may a column be called in the files of statistics programmes? The rules of each, and a name that keeps them.

Names are shortened from the right and told apart by numbers, in the order of the columns, so the same table gives the
same names. Which name stands for which column is a part of the codebook, and the label of each variable.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """What a programme takes for a name: so many characters, upper case or not, and never one of these."""

    longest: int
    upper: bool
    reserved: frozenset[str]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# IBM SPSS Statistics, command syntax reference: variable names, and the words of the language.
SPSS = Rules(64, upper=False, reserved=_words("all and by eq ge gt le lt ne not or to with"))
# Stata user's guide [U] 11.3: naming conventions. 32 characters, of which 5 are left for the names of value labels: the
# library makes them of the name of the variable and a number.
STATA = Rules(
    27,
    upper=False,
    reserved=_words("_all _b byte _coef _cons double float if in int long _n _pi _pred _rc _skip strl using with"),
)
# SAS technical note TS-140: version 5 transport files.
SAS = Rules(8, upper=True, reserved=_words("_n_ _error_ _all_"))


def names(columns: Iterable[str], rules: Rules) -> list[str]:
    """A name for each column that its programme takes, all different even where case does not count."""
    taken: set[str] = set()
    found = []
    for column in columns:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", column)
        if not re.match(r"[A-Za-z]", plain):
            plain = f"v{plain}"
        name, count = plain[: rules.longest].rstrip("_") or "v", 1
        while name.casefold() in taken or name.casefold() in rules.reserved or re.fullmatch(r"str\d+", name.casefold()):
            count += 1
            ending = f"_{count}" if rules.longest > 8 else str(count)
            name = plain[: rules.longest - len(ending)] + ending
        taken.add(name.casefold())
        found.append(name.upper() if rules.upper else name)
    return found
