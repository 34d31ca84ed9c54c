"""How does a template become a page, or the one block htmx asked for?"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from babel.core import UnknownLocaleError
from babel.dates import format_date, format_timedelta
from babel.numbers import format_decimal
from babel.support import NullTranslations
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound, select_autoescape
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from app.foundation.languages import Names, day_in, in_language, languages, name_of, translations
from app.foundation.partial_dates import days_of
from app.templating import Quick, attributes, shown

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "app" / "web" / "static"


@dataclass(frozen=True)
class NavItem:
    """One line of the rail. `icon` names a file in templates/_components/icons."""

    label: str
    url: str
    icon: str
    current: bool = False


@dataclass(frozen=True)
class Flash:
    """One sentence about what just happened, shown once."""

    kind: Literal["done", "note", "warning", "problem"]
    text: str


@dataclass(frozen=True)
class Viewer:
    """What the shell needs to know about the person who looks. Nothing here depends on an arm."""

    person_name: str = ""
    role_names: tuple[str, ...] = ()
    study_code: str | None = None
    study_title: str | None = None
    blinded: bool | None = None
    nav: tuple[NavItem, ...] = ()
    sites: tuple[tuple[str, str], ...] = ()
    site_code: str | None = None
    csrf_token: str = ""
    theme: str = ""
    timezone: str = "UTC"
    language: str = "en"
    flashes: tuple[Flash, ...] = ()
    home_url: str = "/"
    search_url: str = ""
    site_url: str = "/site"
    theme_url: str = "/theme"
    sign_out_url: str = "/sign-out"
    account_url: str = ""
    other_words: str | None = None
    in_study_words: bool = False


def page(
    request: Request,
    template: str,
    *,
    viewer: Viewer,
    status_code: int = 200,
    headers: Mapping[str, str] | None = None,
    names: Names | None = None,
    **values: Any,
) -> HTMLResponse:
    """The whole page, or only the block named by the element htmx will replace: `#visit-list` is block `visit_list`.

    `names`: what of a study stands in sentences of ours, in the language of the page.
    """
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    found = templates(viewer.language).get_template(template)
    if taken := values.keys() & found.globals.keys():
        raise TypeError(f"{sorted(taken)} would hide what every page has. Give it another name.")
    given = {"viewer": viewer, "here": here, **values}
    context = found.new_context(given)
    block = _block_asked_for(request)
    before = _NAMES.set(names)
    try:
        if block:
            # Running up to the first output carries out the page's own imports and sets, and merges its blocks.
            next(found.root_render_func(context), None)
        body = "".join(context.blocks[block][0](context)) if block in context.blocks else found.render(given)
    finally:
        _NAMES.reset(before)
    return HTMLResponse(
        body,
        status_code=status_code,
        headers={"Cache-Control": "no-store", "Vary": "HX-Request", **(headers or {})},
    )


def _block_asked_for(request: Request) -> str:
    """The block behind the `HX-Target` header, which reads `tag#id`; empty when the whole page is wanted."""
    asked = request.headers
    if asked.get("HX-Request") != "true" or "HX-Boosted" in asked or "HX-History-Restore-Request" in asked:
        return ""
    return asked.get("HX-Target", "").rpartition("#")[2].replace("-", "_")


@lru_cache(maxsize=32)
def templates(language: str = "en") -> Quick:
    """The Jinja environment of one language."""
    environment = Quick(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=(), disabled_extensions=("txt",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do", "jinja2.ext.loopcontrols"],
    )
    environment.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    says, ui = spoken(translations(language)), Components(environment)
    environment.known.update({"_": says, "ui.icon": lambda name: ui.icon(name)})
    environment.globals.update(
        _=says,
        told=lambda text: told(text, language),
        languages_known=[(each, name_of(each)) for each in languages()],
        ui=ui,
        language=language,
        static_url=static_url,
        drawing=drawing,
        timeline_layout=timeline_layout,
        window_layout=window_layout,
        axis_steps=axis_steps,
    )
    environment.filters.update(
        headings=lambda columns: headings(columns, language),
        labelled=labelled,
        day=lambda value: day(value, language),
        known_day=lambda text: known_day(text, language),
        weekday=lambda value: weekday(value, language),
        weekday_name=lambda value: format_date(value, "EEE", locale=language.replace("-", "_")),
        month=lambda value: format_date(value, "LLLL y", locale=language.replace("-", "_")),
        moment=lambda value, timezone: moment(value, timezone, language),
        ago=lambda value, now: ago(value, now, language),
        decimal=lambda value, places=None: decimal(value, places, language),
        language=language_word,
        xmlattr=attributes,
    )
    return environment


def spoken(catalogue: NullTranslations) -> Callable[..., Markup]:
    """`_(...)` of the templates: a sentence of theirs, translated, with what is put into it escaped.

    As the i18n extension has it, but a sentence is looked up once, and one with nothing to put in is made up once.
    """
    said = lru_cache(maxsize=4096)(catalogue.gettext)

    @lru_cache(maxsize=4096)
    def whole(message: str) -> Markup:
        return Markup(said(message) % {})  # noqa: S704

    def gettext(message: str, /, **values: object) -> Markup:
        if not values:
            return whole(message)
        return Markup(said(message) % {name: shown(value) for name, value in values.items()})  # noqa: S704

    return gettext


def told(text: Any, language: str) -> Any:
    """What a room or a door says on a page, in the language of the page; markup is a template's own, and stays.

    Only for sentences of the program (a reason, an error, a label of ours), never for what somebody typed.
    """
    return in_language(text, language, _NAMES.get()) if type(text) is str else text


_NAMES: ContextVar[Names | None] = ContextVar("names", default=None)
"""What of a study stands in the sentences of the page that is being made."""


class Components:
    """`ui.button(...)` in a template is the macro `button` of templates/_components/button.html, read once."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def __getattr__(self, name: str) -> Any:
        try:
            macro = getattr(self._environment.get_template(f"_components/{name}.html").module, name)
        except TemplateNotFound as missing:
            raise AttributeError(name) from missing
        given = kept(macro) if name in KEPT else macro
        self.__dict__[name] = given
        return given


KEPT = frozenset({"icon", "mark_shape", "mark_tone", "mark_word", "status_mark", "window_bar", "window_words"})
"""The small components that a page repeats in every row. None of them is given what a person typed, or an arm."""


def kept(macro: Any) -> Callable[..., Any]:
    """A macro whose output for plain arguments is kept: it depends on nothing else, and a long list asks it often."""
    again = lru_cache(maxsize=2048, typed=True)(macro)

    def called(*arguments: Any, **named: Any) -> Any:
        for value in (*arguments, *named.values()):
            if type(value) not in _PLAIN:
                return macro(*arguments, **named)
        return again(*arguments, **named)

    return called


# Exactly these types: a subclass, or a tuple, may be equal to another and still look different on the page.
_PLAIN = frozenset({str, Markup, int, bool, date, type(None)})


def headings(columns: Sequence[Mapping[str, Any]], language: str = "en") -> tuple[str, ...]:
    """The words of each column as `labelled` puts them into the cells of every row."""
    return tuple(f'{_plain(told(column.get("label", ""), language))}"' for column in columns)


def labelled(cells: Markup, names: Sequence[str]) -> Markup:
    """The cells of a row with their roles and the name of their column (`headings`), for a row that stands as a list.

    A browser forgets what a cell is when it no longer stands in a table. Cells hold no tables, and text is escaped.
    """
    parts = _CELL.split(str(cells))  # text: what is cut out of markup is made markup again, piece by piece
    said = parts[:1]
    for tag, rest, name in zip_longest(parts[1::2], parts[2::2], names[: len(parts) // 2], fillvalue='"'):
        said += (_ROLE[tag], name, rest)
    return Markup("".join(said))  # noqa: S704


_CELL = re.compile(r"<(th|td)\b")
_ROLE = {"th": '<th role="rowheader" data-label="', "td": '<td role="cell" data-label="'}


@lru_cache(maxsize=1024)
def _plain(label: object) -> Markup:
    """The words of a column's heading as an attribute, without its markup; kept, since every row asks for them."""
    return escape(Markup("{}").format(label).striptags())


@lru_cache(maxsize=256)
def drawing(name: str) -> Markup:
    """The SVG of an icon, as it stands in templates/_components/icons; our own files, hence safe as markup."""
    return Markup((TEMPLATES / "_components" / "icons" / f"{name}.svg").read_text(encoding="utf-8").strip())  # noqa: S704


def static_url(name: str) -> str:
    """The address of a file in app/web/static, with a hash of its content so that it may be cached for ever."""
    return f"/static/{name}?v={_content_hash(name, (STATIC / name).stat().st_mtime_ns)}"


@lru_cache(maxsize=128)
def _content_hash(name: str, changed_ns: int) -> str:  # noqa: ARG001
    """Sixteen hexadecimal digits; `changed_ns` is only there so that an edited file is read again."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]


@lru_cache(maxsize=8192)
def day(value: date | None, language: str = "en") -> str:
    """`14 Mar 2026`; nothing for None."""
    return "" if value is None else day_in(value, language)


def known_day(text: str, language: str = "en") -> str:
    """A day as far as it is known: `14 Mar 2026`, `Mar 2026`, `2026`; anything else as it is."""
    days = days_of(text)
    if days is None:
        return text
    if len(text) == len("2026-03-14"):
        return day(days[0], language)
    return format_date(days[0], "y" if len(text) == len("2026") else "MMM y", locale=language.replace("-", "_"))


@lru_cache(maxsize=8192)
def weekday(value: date, language: str = "en") -> str:
    """`Sat 14 Mar 2026`."""
    return day_in(value, language, weekday=True)


@lru_cache(maxsize=8192)
def moment(value: datetime | None, timezone: str, language: str = "en") -> Markup:
    """`14 Mar 2026 14:02` in the site's zone, with the zone and its offset from UTC on hover."""
    if value is None:
        return Markup("")
    local = value.astimezone(ZoneInfo(timezone))
    offset = local.strftime("%z")
    title = f"{local:%H:%M:%S} {timezone}, UTC{offset[:3]}:{offset[3:5]}"
    shown = f"{day_in(local.date(), language)} {local:%H:%M}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        value.astimezone(UTC).isoformat(timespec="seconds"), title, shown
    )


def ago(value: datetime, now: datetime, language: str = "en") -> str:
    """`3 days ago`, `in 2 hours`."""
    return format_timedelta(value - now, add_direction=True, locale=language.replace("-", "_"))


def language_word(code: str) -> str:
    """What a language of a study calls itself, `Deutsch` for `de`; its code where nobody knows one."""
    try:
        return name_of(code)
    except (UnknownLocaleError, ValueError):
        return code


@lru_cache(maxsize=8192, typed=True)
def decimal(value: float | Decimal | None, places: int | None = None, language: str = "en") -> str:
    """A number as this language writes it, with a fixed number of places when given; nothing for None."""
    if value is None:
        return ""
    pattern = None if places is None else "#,##0" + ("." + "0" * places if places else "")
    return format_decimal(value, format=pattern, locale=language.replace("-", "_"))


@dataclass(frozen=True)
class PlacedVisit:
    """Where a visit stands on the timeline, in per cent of its width; `lane` counts label rows away from the line."""

    visit: Any
    at: float
    opens_at: float | None
    window_width: float
    above: bool
    lane: int
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True)
class TimelineLayout:
    """All of a timeline in per cent, with ticks at whole weeks since its first day."""

    visits: tuple[PlacedVisit, ...]
    ticks: tuple[tuple[int, float], ...]
    today_at: float | None
    lanes_above: int
    lanes_below: int


def timeline_layout(visits: Sequence[Any], today: date) -> TimelineLayout:
    """Place visits (`label`, `target`, `opens`, `closes`, `held_on`) so that no two labels of one row touch."""
    days = [each for visit in visits for each in _dates(visit, ("target", "opens", "closes", "held_on"))]
    if not days:
        return TimelineLayout((), (), None, 0, 0)
    first, last = min(days), max(days)
    span = max((last - first).days, 1)

    def per_cent(when: date) -> float:
        return round(2 + 96 * (when - first).days / span, 3)

    free: dict[tuple[bool, int], float] = {}
    placed = []
    for visit in sorted(visits, key=lambda each: _value(each, "held_on") or _value(each, "target")):
        at = per_cent(_value(visit, "held_on") or _value(visit, "target"))
        named = not _value(visit, "unnamed")
        width = 1.5 + 0.8 * max(len(str(_value(visit, "label"))), 11)
        anchor: Literal["start", "middle", "end"] = "start" if at < 6 else "end" if at > 94 else "middle"
        left = at if anchor == "start" else at - width if anchor == "end" else at - width / 2
        rows = ((above, lane) for lane in range(6) for above in (True, False))
        row = next((each for each in rows if free.get(each, -100.0) <= left), (True, 0)) if named else (True, -1)
        if named:
            free[row] = left + width
        opens, closes = _value(visit, "opens"), _value(visit, "closes")
        windowed = opens is not None and closes is not None
        placed.append(
            PlacedVisit(
                visit=visit,
                at=at,
                opens_at=per_cent(opens) if windowed else None,
                window_width=round(per_cent(closes) - per_cent(opens), 3) if windowed else 0.0,
                above=row[0],
                lane=row[1],
                anchor=anchor,
            )
        )
    weeks = span // 7
    step = next((each for each in (1, 2, 4, 8, 13, 26) if weeks / each <= 8), 52)
    ticks = tuple((week, round(2 + 96 * week * 7 / span, 3)) for week in range(0, weeks + 1, step))
    return TimelineLayout(
        visits=tuple(placed),
        ticks=ticks,
        today_at=per_cent(today) if first <= today <= last else None,
        lanes_above=1 + max((each.lane for each in placed if each.above), default=-1),
        lanes_below=1 + max((each.lane for each in placed if not each.above), default=-1),
    )


def window_layout(opens: date, target: date, closes: date, today: date) -> dict[str, float]:
    """A window in per cent of its own bar (the bar keeps a margin each side), with today held inside it."""
    span = max((closes - opens).days, 1)

    def per_cent(when: date) -> float:
        return round(6 + 88 * (when - opens).days / span, 2)

    return {"target": per_cent(target), "today": min(max(per_cent(today), 3.0), 97.0)}


def axis_steps(high: float) -> list[float]:
    """Round numbers from nought to just above `high`, five or six of them, for an axis people read at a glance."""
    rough = max(high, 1) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(each * size for each in (1, 2, 5, 10) if each * size >= rough)
    step = max(step, 1.0) if high >= 1 else step
    return [step * each for each in range(math.ceil(max(high, 1) / step) + 1)]


def _dates(thing: Any, names: Iterable[str]) -> list[date]:
    return [value for name in names if (value := _value(thing, name)) is not None]


def _value(thing: Any, name: str) -> Any:
    """A field of a mapping or of an object; None when it is not there."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
