"""What does an expression in a protocol mean, and what is its value for this participant?

One small, pure, total language for eligibility, skip logic, edit checks, calculated scores and strata:

    expr      or, and (any case), not (...), = <> != < <= > >=, + - * /, ^ (right to left), functions, brackets
    literals  12.5   'text' or "text" (no escapes)   true   false        comments: # or // to the end of the line
    fields    [field]  [field(code)]  [event][field]  [field][instance]  [event][field][instance]
              event: a name or (first|last|previous|next)-event-name or event-name; instance: a number or
              (current|first|last|previous|next|new)-instance. The context gives these words their meaning.
              [field:value] is [field]; any other modifier stays in the field's name, e.g. `rand-number:2`.

Nothing is evaluated by Python itself, nothing reads a clock or a database, and no evaluation raises.

    | situation                                   | answer                                                            |
    |---------------------------------------------|-------------------------------------------------------------------|
    | blank                                       | no value, '', nothing ticked, or a missing-data code              |
    | missing-data code                           | blank, except in the ...missingcode functions; passes through if  |
    | [field(code)]                               | 1 ticked, 0 not (also when blank); a missing code stays one       |
    | + - * / ^ with a blank, or with a word      | blank                                                             |
    | x/0, sqrt(-1), log(0), 0^0                  | blank                                                             |
    | -2^2; 2^3^2                                 | 4 (the minus binds first); 512 (right to left)                    |
    | results                                     | 28 significant digits, half even, at most 27 decimals;            |
    |                                             | from 10^28 on blank; texts over 100,000 characters blank          |
    |                                             | (60 digits within one chain of + - or * /, within one function)   |
    | looks like a number                         | -1, 2.50, .5 (up to 28 digits; no exponent, no spaces); true is 1 |
    | looks like a date                           | 2026-03-02, 2026-03-02 14:30[:15], with T or a space              |
    | = <> with a blank                           | blank equals blank only; never unknown: blank <> '1' is true      |
    | = <> otherwise                              | as numbers when both look so, as dates when both do, as text      |
    | < <= > >= with a blank                      | unknown (None)                                                    |
    | < <= > >= otherwise                         | two numbers, two dates (a date is its midnight) or two texts by   |
    |                                             | code point; of different kinds unknown                            |
    | [date] <= 'today' (or 'now')                | the clock when the other side is a date, a plain word otherwise   |
    | and, or, not                                | three-valued: unknown and false is false, unknown or true is true |
    | truth of a value                            | blank unknown; 0 and the word false false; all else true          |
    | if(unknown, a, b)                           | blank; only the chosen branch is evaluated                        |
    | sum, mean, min, max, median, stdev          | ignore blanks; all blank is blank; a word makes the result blank  |
    | stdev                                       | of a sample (n - 1); blank below two answers                      |
    | round; roundup, rounddown                   | half away from zero; towards plus, minus infinity                 |
    | mod                                         | sign of the first number                                          |
    | datediff(a, b, unit, [order], [signed])     | y = 365.2425 d, M = 30.44 d, d, h, m, s; unsigned unless signed   |
    | age_at_date(born, on, [decimal])            | calendar years; 29 February counts on 1 March; blank before birth |
    | contains, starts_with, ends_with, find      | whatever the case; contains on a multiple choice: is it ticked    |
    | answered(a, ...), count(a, ...)             | how many are not blank                                            |
    | sum, mean, ..., count of an item of rows    | of the answers in all rows; such an item is blank elsewhere,      |
    |                                             | but in an expression of its own row, where it is that row's       |
    | prorated_sum(least, a, ...)                 | sum * items / answered when at least `least` are answered         |
    | selected_count([field])                     | ticked codes; 0 when answered with none, blank when not answered  |
    | holds                                       | the truth of the value; None when unknown                         |

Because blank <> '1' is true, who must not decide on a blank (eligibility) asks first that `references` are answered.
"""

from app.expressions.compiling import Context
from app.expressions.expression import Expression, Reference, parse
from app.expressions.grammar import ExpressionError
from app.expressions.values import Column, Missing, Value, from_stored

__all__ = [
    "Column",
    "Context",
    "Expression",
    "ExpressionError",
    "Missing",
    "Reference",
    "Value",
    "from_stored",
    "parse",
]
