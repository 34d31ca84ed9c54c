"""Which pages has a study in the making beside its instruments, and which fields has each?

A page is one sheet of fields over one file: study.yaml, study.LANGUAGE.yaml, or the head of a consent document. What
has no field stands in tests/web/test_draft_sheets.py, with the reason: a new field of the definition is noticed there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any
from zoneinfo import available_timezones

from markupsafe import escape

from app.studies.definition import DEVIATIONS, RELATEDNESS, SEVERITIES, UNBLINDING_REASONS, Part
from app.studies.drafts.editing import data_of
from app.web.draft_fields import (
    AREA,
    CHOICES,
    CODES,
    LINES,
    SELECT,
    Asked,
    Rows,
    Sheet,
    flag,
)
from app.web.draft_forms import SUGGESTIONS, instrument

STUDY = "study.yaml"
Options = tuple[tuple[str, str], ...]

_OF_STAFF = (
    ("coordinator", "Coordinator"),
    ("assessor", "Assessor"),
    ("clinician", "Clinician"),
    ("investigator", "Investigator"),
    ("data_manager", "Data manager"),
    ("monitor", "Monitor"),
    ("statistician", "Statistician"),
    ("administrator", "Administrator"),
)
_METHODS = (
    ("permuted_blocks", "Permuted blocks"),
    ("simple", "Simple randomisation"),
    ("big_stick", "Big stick"),
    ("maximal_procedure", "Maximal procedure"),
    ("wei_urn", "Wei's urn"),
    ("truncated_binomial", "Truncated binomial"),
    ("biased_coin", "Biased coin"),
    ("cluster", "Whole sites, drawn together"),
    ("list", "A list drawn elsewhere"),
    ("minimisation", "Minimisation"),
    ("observed", "Not allocated: groups are observed"),
)
_AHEAD = tuple(each for each in _METHODS if each[0] not in ("cluster", "minimisation", "observed"))
SIGNED = (("true", "Casebook is signed"), ("false", "Nothing is signed"))
_CODE = Asked("code", "Code")
_LABEL = Asked("label", "Label")
_WORDS = (_CODE, _LABEL)


@dataclass(frozen=True)
class Known:
    """What the files of a draft say so far, as far as they can be read: what can be chosen on its pages."""

    files: Mapping[str, str]
    is_new: bool = False
    """Whether the study is not here yet."""

    @cached_property
    def study(self) -> Any:
        """What study.yaml says; empty when it cannot be read."""
        return data_of(self.files.get(STUDY, "")) or {}

    @cached_property
    def forms(self) -> tuple[tuple[str, Any], ...]:
        """Each instrument: its code, and what its file says."""
        paths = [path for path in self.files if path.startswith("instruments/") and path.endswith(".yaml")]
        return tuple((path[12:-5], data_of(self.files[path]) or {}) for path in paths if path.count(".") == 1)

    @property
    def instruments(self) -> Options:
        """The instruments, to choose from."""
        return tuple((code, _with_code(code, said.get("label"))) for code, said in self.forms if isinstance(said, dict))

    @property
    def items(self) -> Options:
        """Every item of every instrument that is asked once or in rows."""
        found = (
            item for _, said in self.forms for section in _list(said, "sections") for item in _list(section, "items")
        )
        return _options(found)

    def of(self, *keys: str) -> Options:
        """The entries of a list of study.yaml that have a code."""
        said = self.study
        for key in keys[:-1]:
            said = said.get(key) if isinstance(said, dict) else None
        return _options(_list(said, keys[-1]))

    @property
    def dictionaries(self) -> Options:
        """The dictionaries that texts can be coded with."""
        return self.of("dictionaries")

    def either(self, options: Options) -> Options:
        """Options of a selection in which nothing may stand."""
        return (("", "–"), *options)


def _list(said: Any, key: str) -> list[Any]:
    found = said.get(key) if isinstance(said, dict) else None
    return found if isinstance(found, list) else []


def _options(entries: Iterable[Any]) -> Options:
    found = [each for each in entries if isinstance(each, dict) and isinstance(each.get("code"), str)]
    return tuple((each["code"], _with_code(each["code"], each.get("label") or each.get("name"))) for each in found)


def _with_code(code: str, label: Any) -> str:
    # What somebody typed is not to be translated, as our own words on a page are.
    return escape(f"{label} ({code})" if isinstance(label, str) else code)


def _said(parts: Sequence[Part]) -> tuple[dict[str, str], ...]:
    """What holds unless a study says otherwise, as its file would say it."""
    found = (part.model_dump(mode="json", exclude_defaults=True) for part in parts)
    return tuple({key: "true" if value is True else str(value) for key, value in each.items()} for each in found)


def words_table(way: str, label: str, add: str, code: str, *, hint: str = "", usual: Sequence[Part] = ()) -> Rows:
    """A table of codes and labels."""
    return Rows(way, label, add, _WORDS, {"code": code, "label": "New"}, is_table=True, hint=hint, usual=_said(usual))


@cache
def _zones() -> Options:
    """The time zones of the world, by a city each."""
    return tuple((zone, "") for zone in sorted(available_timezones()) if "/" in zone and not zone.startswith("Etc/"))


def general(known: Known) -> Sheet:
    """What the study is called, and where it takes place."""
    factors = (("optional", "Whoever wants one"), ("required", "Everybody"))
    fields = (
        Asked("title", "Title"),
        Asked("short_title", "Short title", hint="Shown at the top of every page"),
        Asked("version", "Version", hint="Of the protocol. Every change that is loaded needs a new one."),
        Asked("target", "Planned participants"),
        Asked("sponsor", "Sponsor"),
        Asked("language", "Language", hint="Of the protocol and its forms, such as en or de", otherwise="en"),
        Asked(
            "participant_prefix",
            "Codes of participants begin with",
            hint="Up to four capital letters, and a - behind",
            otherwise="P-",
        ),
        Asked("participant_digits", "Digits of a participant's code", hint="3 to 8. With 4: P-0001", otherwise="4"),
        Asked("second_factor", "Who signs in with a second factor", SELECT, factors, otherwise="optional"),
        Asked(
            "record_id",
            "Participant's code in REDCap's API",
            hint="What programs that speak REDCap call this field",
            otherwise="participant_id",
        ),
    )
    sites = (
        _CODE,
        Asked("name", "Name"),
        Asked("timezone", "Time zone", suggested=_zones()),
        Asked("target", "Planned", needed=False),
    )
    registered = (Asked("registry", "Registry"), Asked("number", "Number"))
    return Sheet(
        "General and sites",
        (_CODE, *fields) if known.is_new else fields,
        (
            Rows(
                "sites",
                "Sites",
                "Add a site",
                sites,
                {"code": "site", "name": "New site", "timezone": "UTC"},
                is_table=True,
            ),
            Rows(
                "registrations",
                "Registrations",
                "Add a registration",
                registered,
                {"registry": "Registry", "number": "0"},
                is_table=True,
            ),
        ),
    )


def strata(way: str, hint: str) -> Rows:
    return Rows(
        way,
        "Strata",
        "Add a stratum",
        (
            *_WORDS,
            Asked("by", "By", SELECT, (("site", "Site"), ("expression", "Expression")), otherwise="site"),
            Asked(
                "expression",
                "Expression",
                AREA,
                hint="Gives one of the levels, from what was entered before, such as [baseline][sex]",
                only=("expression",),
                by="by",
            ),
            Asked("levels", "Levels", CHOICES, only=("expression",), by="by"),
        ),
        {"code": "stratum", "label": "New stratum"},
        hint=hint,
    )


def arms(_: Known) -> Sheet:
    """The arms, how they are allocated, and who must not learn which."""
    method = (
        "How the order of the arms is drawn. Block sizes and the like are chosen by the statistician when drawing, "
        "and never stand here: those who enrol may read this."
    )
    fields = (
        flag(
            "blinded",
            "Participants and assessors must not learn the arm",
            "Yes: no page, mail or export of a blinded role says it, and a text that gives it away is an error.",
            otherwise="true",
        ),
        Asked("allocation.method", "Allocation", SELECT, _METHODS, hint=method),
        Asked("allocation.source", "Where this is documented", AREA, needed=False),
    )
    columns = (*_WORDS, Asked("ratio", "Ratio", otherwise="1"), Asked("planned", "Planned"))
    return Sheet(
        "Arms and allocation",
        fields,
        (
            Rows(
                "arms",
                "Arms",
                "Add an arm",
                columns,
                {"code": "arm", "label": "New arm"},
                is_table=True,
                hint="Only unblinded people read the label of an arm. Choose a code that is no word of your forms.",
            ),
            strata(
                "allocation.strata",
                "Within each stratum the arms are balanced. With minimisation these are the factors to balance.",
            ),
        ),
    )


def stage(known: Known) -> Sheet:
    """The allocation that comes before the one to an arm, if there is one."""
    at = "allocation.first_stage"
    arm = (
        Asked("arm", "Arm", SELECT, known.of("arms")),
        Asked("ratio", "Ratio", otherwise="1"),
    )
    first = {"code": "group", "label": "New group", "arms": [{"arm": code} for code, _ in known.of("arms")[:2]]}
    return Sheet(
        "A group first, an arm later",
        (
            Asked(f"{at}.code", "Code", needed=False),
            Asked(f"{at}.label", "Label", needed=False, hint="Everybody reads it: say nothing of the groups."),
            Asked(
                f"{at}.after",
                "After",
                SELECT,
                (("screening", "Screening"), ("consent", "Consent")),
                otherwise="screening",
            ),
            Asked(f"{at}.method", "Allocation", SELECT, known.either(_AHEAD)),
        ),
        (
            Rows(
                f"{at}.groups",
                "Groups",
                "Add a group",
                (*_WORDS, Asked("ratio", "Ratio", otherwise="1")),
                first,
                inner=(
                    Rows(
                        "arms",
                        "Arms within it",
                        "Add an arm",
                        arm,
                        {"arm": known.of("arms")[0][0] if known.of("arms") else "arm"},
                        is_table=True,
                    ),
                ),
                hint="Hidden like arms: nobody who is blinded learns the group. Each has two arms or more.",
            ),
            strata(f"{at}.strata", "By site, or from answers at screening."),
        ),
        hint="Only where participants are allocated twice. Without groups there is no first stage.",
    )


def groups(known: Known) -> Sheet:
    """Where a study that allocates nobody records the group."""
    at = "allocation.group"
    answer = (Asked("choice", "Answer"), Asked("arm", "Arm", SELECT, known.of("arms")))
    return Sheet(
        "Observed groups",
        (
            Asked(f"{at}.visit", "Visit", SELECT, known.either(known.of("visits"))),
            Asked(
                f"{at}.item", "Item", suggested=known.items, hint="A choice, or a yes or no, of a form of that visit"
            ),
        ),
        (
            Rows(
                f"{at}.answers",
                "What an answer means",
                "Add an answer",
                answer,
                {"choice": "yes", "arm": known.of("arms")[0][0] if known.of("arms") else "arm"},
                is_table=True,
            ),
        ),
        hint="Only where nobody is allocated: which answer says in which group somebody is.",
    )


def eligibility(known: Known) -> Sheet:
    """Who may take part."""
    kinds = (("inclusion", "Inclusion"), ("exclusion", "Exclusion"))
    rule = Asked(
        "rule", "Rule", AREA, hint="An inclusion must hold, an exclusion must not. Such as [age] >= 18 and [age] <= 70"
    )
    new = {"code": "criterion", "label": "New criterion", "kind": "inclusion", "rule": "[age] >= 18"}
    return Sheet(
        "Who may take part",
        (Asked("eligibility.instrument", "Asked at screening", SELECT, known.instruments),),
        (
            Rows(
                "eligibility.criteria",
                "Criteria",
                "Add a criterion",
                (*_WORDS, Asked("kind", "Kind", SELECT, kinds), rule),
                new,
            ),
            words_table(
                "screen_failure_reasons",
                "Reasons why somebody does not take part",
                "Add a reason",
                "reason",
                hint="To choose from when a screening ends without consent or randomisation.",
            ),
        ),
    )


def consent(_: Known) -> Sheet:
    """Who signs, what may be refused, what must be understood, and what waits for a newer document."""
    signers = (("coordinator", "Coordinator"), ("investigator", "Investigator"))
    waits = (("randomisation", "Randomisation"), ("visits", "Visits"), ("entries", "Entries"))
    question = (
        *_WORDS,
        Asked("choices", "Choices", CHOICES, needed=True),
        Asked("right", "Right answer", hint="The code of one of the choices", needed=True),
        Asked("hint", "Said after a wrong answer", hint="Where to read again, say"),
    )
    new = {
        "code": "question",
        "label": "New question",
        "choices": [{"code": "no", "label": "No"}, {"code": "yes", "label": "Yes"}],
        "right": "yes",
    }
    return Sheet(
        "Consent",
        (
            Asked("consent.countersigned_by", "Who signs beside the participant", CODES, signers, hint="None: either."),
            Asked(
                "consent.blocked_until_reconsent",
                "What waits until a newer document is signed",
                CODES,
                waits,
                hint="None: nothing waits, and who owes a signature is listed.",
            ),
        ),
        (
            words_table(
                "consent.optional",
                "What a participant may refuse and still take part",
                "Add an optional consent",
                "optional",
            ),
            Rows(
                "consent.questions",
                "Questions that show whether the document was understood",
                "Add a question",
                question,
                new,
                hint="Whoever signs on screen answers all of them rightly, however often they try.",
            ),
        ),
    )


def visits(known: Known) -> Sheet:
    """The visit plan, with the instruments of each visit."""
    kinds = (("baseline", "Baseline"), ("treatment", "Treatment session"), ("assessment", "Assessment"))
    anchors = (("screening", "Screening"), ("consent", "Consent"), ("randomisation", "Randomisation"))
    fields = (
        _CODE,
        Asked("label", "Label", below=True),
        Asked("short", "Short label", below=True),
        Asked("kind", "Kind", SELECT, kinds),
        Asked("anchor", "Counted from", SELECT, anchors, below=True, otherwise="randomisation"),
        Asked("casebook_signature", "Signature", SELECT, SIGNED, below=True, otherwise="false"),
        Asked("day", "Day"),
        Asked("window.before", "Days before", below=True),
        Asked("window.after", "Days after", below=True),
        Asked("instruments", "Instruments", CODES, known.instruments),
        Asked("double_entry", "Entered twice", CODES, known.instruments, below=True),
    )
    new = {
        "code": "visit",
        "label": "New visit",
        "kind": "assessment",
        "day": "0",
        "window": {"before": "0", "after": "0"},
    }
    return Sheet(
        "Visit plan",
        (),
        (
            Rows(
                "visits",
                "Visits",
                "Add a visit",
                fields,
                new,
                is_table=True,
                hint="In the order in which they are due. Everybody is asked the instruments of a baseline before "
                "randomisation. A treatment session has no forms: what is delivered stands under Treatment. "
                "Entered twice are forms that two people enter, each without seeing the other.",
            ),
        ),
    )


def unscheduled(known: Known) -> Sheet:
    """What can be entered at a visit outside the plan."""
    return Sheet(
        "Visits outside the plan",
        (
            Asked(
                "unscheduled.instruments",
                "Instruments of a visit outside the plan",
                CODES,
                known.instruments,
                hint="None: there are no visits outside the plan.",
            ),
            Asked(
                "unscheduled.label", "What such a visit is called", needed=False, hint="Unscheduled visit, unless said"
            ),
        ),
    )


def schedule(known: Known) -> Sheet:
    """How long appointments last, and who is reminded of what."""
    moments = (
        ("booked", "When it is booked, moved or cancelled"),
        ("before_appointment", "Days before an appointment"),
        ("window_opens", "Days after a window opens, while nothing is booked"),
        ("overdue", "Days after a window closed"),
    )
    text = (
        Asked("language", "Language", hint="Such as en or de"),
        Asked("subject", "Subject"),
        Asked(
            "body",
            "Text",
            AREA,
            hint="In braces: day, time, site, opens, closes, and for staff participant and visit are filled in.",
        ),
    )
    reminder = (
        _CODE,
        Asked("when", "When", SELECT, moments),
        Asked("days", "Days", otherwise="0", only=("before_appointment", "window_opens", "overdue"), by="when"),
        Asked("at", "At o'clock", otherwise="09:00", hint="By the clock of the site, such as 09:00"),
        Asked(
            "to", "To", SELECT, (("participant", "The participant"), ("staff", "The staff")), otherwise="participant"
        ),
        Asked("by", "By", SELECT, (("mail", "Mail"), ("sms", "Text message")), otherwise="mail"),
        Asked("visits", "For the visits", CODES, known.of("visits"), hint="None: for all of them."),
    )
    return Sheet(
        "Appointments and reminders",
        (
            Asked("schedule.minutes", "Minutes of an appointment", otherwise="60"),
            Asked(
                "schedule.quiet_from",
                "No reminder leaves from",
                otherwise="20:00",
                hint="By the clock of whoever is reminded, such as 20:00",
            ),
            Asked("schedule.quiet_until", "Reminders leave again from", otherwise="08:00"),
        ),
        (
            Rows(
                "schedule.lengths",
                "Appointments of another length",
                "Add a length",
                (Asked("visit", "Visit", SELECT, known.of("visits")), Asked("minutes", "Minutes")),
                {"visit": known.of("visits")[0][0] if known.of("visits") else "visit", "minutes": "60"},
                is_table=True,
            ),
            Rows(
                "schedule.reminders",
                "Reminders",
                "Add a reminder",
                reminder,
                {"code": "reminder", "when": "before_appointment", "days": "2"},
                inner=(
                    Rows(
                        "texts",
                        "In its own words",
                        "Add words",
                        text,
                        {"language": "en", "subject": "Your appointment", "body": "Please remember your appointment."},
                        hint="Without any, ours are sent, which name no study, no visit and no arm.",
                    ),
                ),
                hint="Nobody is reminded of anything unless it stands here. A participant can be left out of reminders "
                "on their own page, and by a level of withdrawal.",
            ),
        ),
    )


def _sessions(known: Known, modules: Rows) -> Rows:
    """What is delivered in sessions, by arm."""
    arms = known.of("arms")
    fields = (Asked("arm", "Arm", SELECT, arms),)
    new = {"arm": arms[0][0] if arms else "arm"}
    return Rows("treatment", "Sessions by arm", "Add an arm", fields, new, inner=(modules,))


def treatment(known: Known) -> Sheet:
    """What a session of each arm consists of, and what is recorded of it."""
    questions = instrument(known.dictionaries).lists[0].inner[0]
    modules = Rows(
        "modules",
        "Modules",
        "Add a module",
        _WORDS,
        {"code": "module", "label": "New module", "items": [questions.one]},
        inner=(questions,),
        hint="Each can be delivered in a session: a training, a device with its settings, a sham procedure.",
    )
    return Sheet(
        "Treatment",
        (),
        (_sessions(known, modules),),
        hint="Only unblinded people ever see it. The visit plan says when there are sessions, the same for all arms.",
    )


def outcomes(known: Known) -> Sheet:
    """The outcomes: which item, at which visit."""
    kinds = (("primary", "Primary"), ("secondary", "Secondary"), ("mediator", "Mediator"))
    fields = (
        _LABEL,
        Asked("kind", "Kind", SELECT, kinds, below=True),
        Asked("instrument", "Instrument", SELECT, known.instruments),
        Asked("item", "Item", suggested=known.items, below=True),
        Asked("visit", "Visit", SELECT, known.of("visits")),
    )
    new = {"label": "New outcome", "instrument": "form", "item": "item", "visit": "visit", "kind": "secondary"}
    return Sheet("Outcomes", (), (Rows("outcomes", "Outcomes", "Add an outcome", fields, new, is_table=True),))


def unblinding(_: Known) -> Sheet:
    """Who may break the blind, when, and what is unusual."""
    return Sheet(
        "Breaking the blind",
        (
            Asked(
                "unblinding.procedure",
                "Procedure",
                AREA,
                hint="Who may break the blind, when, for what purpose, whom to call: shown where it is done.",
            ),
            Asked(
                "unblinding.planned_from",
                "Planned unblinding from",
                hint="A day such as 2027-03-01. None: once recruitment is over and every visit is closed.",
            ),
            Asked("unblinding.request_days", "Days for which a request waits", otherwise="14"),
            Asked(
                "unblinding.alert_count",
                "Unusual: as many emergencies at one site",
                otherwise="3",
            ),
            Asked("unblinding.alert_days", "Unusual: within so many days", otherwise="30"),
        ),
        (
            words_table(
                "unblinding.reasons",
                "Reasons of an emergency",
                "Add a reason",
                "reason",
                usual=UNBLINDING_REASONS,
            ),
        ),
    )


def guesses(known: Known) -> Sheet:
    """Which items ask for a guess of the arm, and what their choices mean."""
    people = (
        ("participant", "The participant"),
        ("assessor", "Assessor"),
        ("clinician", "Clinician"),
        ("investigator", "Investigator"),
    )
    fields = (
        *_WORDS,
        Asked("by", "Whose guess it is", SELECT, people, otherwise="participant"),
        Asked("visit", "Visit", SELECT, known.of("visits")),
        Asked("item", "Item", suggested=known.items, needed=True, hint="A choice, of a form of that visit"),
        Asked("do_not_know", "Answers that mean: does not know", LINES, hint="One code a line"),
        Asked("confidence.item", "How sure: item", suggested=known.items),
        Asked("confidence.certain", "Answers that mean: certain", LINES, hint="One code a line"),
        Asked("confidence.certain_from", "Certain from", hint="Where it is a number"),
        Asked("source", "Where this is documented", AREA, needed=False),
    )
    answers = Rows(
        "answers",
        "What an answer means",
        "Add an answer",
        (Asked("choice", "Answer"), Asked("arms", "Arms for which it is right", CODES, known.of("arms"))),
        {"choice": "answer", "arms": [code for code, _ in known.of("arms")[:1]]},
        is_table=True,
        hint="Every arm stands in exactly one of them.",
    )
    new = {
        "code": "guess",
        "label": "New guess",
        "visit": known.of("visits")[-1][0] if known.of("visits") else "visit",
        "item": "item",
        "answers": [{"choice": f"guess_{code}", "arms": [code]} for code, _ in known.of("arms")],
    }
    return Sheet(
        "Did the blind hold?",
        (),
        (Rows("blinding_assessment", "Guesses of the arm", "Add a guess", fields, new, inner=(answers,)),),
        hint="Only the closed report reads it. The question itself stands in an ordinary instrument.",
    )


def missing(_: Known) -> Sheet:
    """Why there can be no answer, and how far somebody can withdraw."""
    level = (
        *_WORDS,
        flag("stops_treatment", "Ends the treatment sessions"),
        flag("stops_visits", "Ends all visits"),
        flag("stops_contact", "Ends every reminder"),
        flag("stops_use", "What is collected from that day on is in no export"),
        flag("erases_identity", "Who they are is destroyed at once"),
    )
    return Sheet(
        "Missing answers and withdrawal",
        (),
        (
            words_table(
                "missing_codes",
                "Reasons why there is no answer",
                "Add a reason",
                "NEW",
                hint="Use letters, such as ND for not done, so that no code can be an answer.",
            ),
            Rows(
                "withdrawal_levels",
                "How far a participant can withdraw",
                "Add a level",
                level,
                {"code": "level", "label": "New level", "stops_visits": "true"},
                hint="From the least to the furthest. Who has withdrawn can go further, never less far.",
            ),
        ),
    )


def safety(known: Known) -> Sheet:
    """Adverse events and their words, judgement, clocks, deviations."""
    runs = (
        ("serious", "Every serious event"),
        ("related", "Serious and related"),
        ("unexpected", "Serious, related and unexpected"),
        ("unexpected_fatal", "Of these, fatal or life-threatening"),
    )
    steps = Rows(
        "steps",
        "Who is told until it is reported",
        "Add a step",
        (Asked("after_hours", "Hours after awareness"), Asked("tell", "Who gets a mail", CODES, _OF_STAFF)),
        {"after_hours": "0", "tell": ["investigator"]},
        is_table=True,
    )
    coding = (
        Asked(
            "safety.coding.dictionary",
            "Terms are coded with",
            SELECT,
            known.either(known.dictionaries),
            hint="Dictionaries stand under Double entry and coding.",
        ),
        Asked(
            "safety.coding.coders",
            "Who codes them",
            SELECT,
            (("2", "Two people, each without seeing the other"), ("1", "One person")),
            otherwise="2",
        ),
        Asked("safety.coding.suggestions", "Earlier codings are shown", SELECT, SUGGESTIONS, otherwise="after"),
    )
    return Sheet(
        "Safety and deviations",
        (
            Asked(
                "safety.review",
                "A second person reviews",
                SELECT,
                (("serious", "Serious events"), ("all", "All events")),
                otherwise="serious",
            ),
            Asked(
                "safety.expected",
                "Terms that are expected",
                CODES,
                known.of("safety", "terms"),
                hint="Of the terms below, once they are saved.",
            ),
            Asked(
                "safety.expected_source",
                "Which reference safety information, and its date",
                AREA,
                needed=False,
            ),
            Asked(
                "safety.late_entry_days",
                "An entry is late after",
                hint="Days after the visit. None: no entry counts as late.",
            ),
            *coding,
        ),
        (
            words_table(
                "safety.terms",
                "Terms",
                "Add a term",
                "term",
                hint="A list to choose from when an event is recorded; its words are typed anyway.",
            ),
            words_table("safety.severity", "Severity", "Add a grade", "grade", usual=SEVERITIES),
            Rows(
                "safety.relatedness",
                "Related to the treatment?",
                "Add an answer",
                (*_WORDS, flag("related", "Counts as related")),
                {"code": "answer", "label": "New answer"},
                is_table=True,
                usual=_said(RELATEDNESS),
            ),
            Rows(
                "safety.clocks",
                "Clocks",
                "Add a clock",
                (
                    *_WORDS,
                    Asked("when", "Runs for", SELECT, runs, otherwise="serious"),
                    Asked("hours", "Hours to the deadline", needed=True, hint="From when the site knew of it"),
                ),
                {"code": "clock", "label": "New clock", "hours": "24"},
                inner=(steps,),
                hint="Deadlines for reporting serious events. There are none unless they stand here.",
            ),
            Rows(
                "safety.deviations",
                "Kinds of deviations",
                "Add a kind",
                (
                    *_WORDS,
                    Asked(
                        "grade",
                        "Unless said otherwise",
                        SELECT,
                        (("minor", "Minor"), ("major", "Major")),
                        otherwise="minor",
                    ),
                ),
                {"code": "kind", "label": "New kind"},
                is_table=True,
                usual=_said(DEVIATIONS),
            ),
        ),
    )


def coding(_: Known) -> Sheet:
    """Forms that two people enter, and what texts are coded with."""
    terms = Rows(
        "terms",
        "Terms",
        "Add a term",
        (*_WORDS, Asked("parent", "Belongs to")),
        {"code": "term", "label": "New term"},
        is_table=True,
        hint="Long lists belong into a file of their own, dictionaries and the code of this one, .csv.",
    )
    dictionary = (
        *_WORDS,
        Asked("version", "Version"),
        Asked("source", "Source", needed=False),
        Asked("licence", "Licence", hint="A licensed dictionary is loaded at the installation, not here."),
    )
    return Sheet(
        "Double entry and coding",
        (
            Asked(
                "double_entry.reconciled_by",
                "Who settles where two entries differ",
                SELECT,
                (("data_manager", "A data manager"), ("second", "Whoever entered it the second time")),
                otherwise="data_manager",
                hint="Which forms are entered twice stands in the visit plan and at each instrument.",
            ),
        ),
        (
            Rows(
                "dictionaries",
                "Dictionaries",
                "Add a dictionary",
                dictionary,
                {"code": "dictionary", "label": "New dictionary", "version": "1"},
                inner=(terms,),
            ),
        ),
    )


def notes(known: Known) -> Sheet:
    """How often somebody looks, what changed, where it all comes from, and what is still open."""
    change = (
        Asked("on", "Date", needed=True, hint="Or as much of it as is known, such as 2026-06"),
        Asked("title", "Title"),
        Asked("text", "Text", AREA, needed=True),
    )
    open_part = (
        Asked("part", "Part", needed=True),
        Asked("say", "What is missing", needed=True),
    )
    return Sheet(
        "Documentation and oversight",
        (
            Asked("oversight.log_review_days", "Days until the log is reviewed again", hint="None: nobody is asked."),
            Asked("oversight.access_review_days", "Days until access is reviewed again", hint="None: nobody is asked."),
            Asked(
                "oversight.verification",
                "Answers that are compared with their source",
                SELECT,
                (("all", "All"), ("named", "Those that are named below"), ("none", "None")),
                otherwise="all",
            ),
            Asked("sources", "Sources", LINES, hint="One a line"),
            Asked("not_known", "What is not known yet", LINES, hint="One a line. Everybody reads it."),
        ),
        (
            Rows(
                "oversight.to_verify",
                "To be compared with the source",
                "Add a form",
                (
                    Asked("instrument", "Form", SELECT, known.instruments),
                    Asked("items", "Items", LINES, hint="One code a line. None: all of the form."),
                    Asked("visits", "At the visits", CODES, known.of("visits"), hint="None: at all of them."),
                ),
                {"instrument": known.instruments[0][0] if known.instruments else "form"},
                is_table=True,
                hint="Looked at while those that are named are compared.",
            ),
            Rows(
                "amendments",
                "Amendments",
                "Add an amendment",
                change,
                {"on": "2026", "title": "New amendment", "text": "What changed, and why."},
                hint="Changes of the protocol after its start.",
            ),
            Rows(
                "placeholders",
                "Still to be decided",
                "Add a part",
                open_part,
                {"part": "target", "say": "Decide this."},
                is_table=True,
                hint="Each is a warning until it is taken out here.",
            ),
        ),
    )


def _in_other_words(known: Known, way: str, label: str, add: str, *more: Asked) -> Rows:
    """What the parts of a list of study.yaml are called in another language, by their codes."""
    codes = known.of(*way.split("."))
    fields = (Asked("code", "Code", suggested=codes), *(more or (_LABEL,)))
    new = {"code": codes[0][0] if codes else "code", **({} if more else {"label": "New"})}
    return Rows(way, label, add, fields, new, is_table=not more)


def words(known: Known) -> Sheet:
    """What people read of study.yaml, in another language."""
    spoken, levels = Asked("label", "Label", needed=False), Asked("levels", "Levels", CHOICES)
    first = "allocation.first_stage"
    asked = (
        Asked("code", "Code"),
        spoken,
        Asked("hint", "Hint"),
        Asked("unit", "Unit"),
        Asked("low_label", "Words of the low end"),
        Asked("high_label", "Words of the high end"),
        Asked("choices", "Choices", CHOICES),
    )
    items = Rows("items", "Questions", "Add a question", asked, {"code": "item"})
    modules = Rows("modules", "What is delivered", "Add something", (_CODE, spoken), {"code": "module"}, (items,))
    outcome = (
        Asked("item", "Item", suggested=known.items, needed=True),
        Asked("visit", "Visit", SELECT, known.of("visits")),
        _LABEL,
    )
    return Sheet(
        "In another language",
        (
            Asked("title", "Title", needed=False),
            Asked(f"{first}.label", "A group first, an arm later", needed=False),
            Asked("unscheduled.label", "Visits outside the plan", needed=False),
            Asked("unblinding.procedure", "Procedure of breaking the blind", AREA),
        ),
        (
            _in_other_words(
                known, "visits", "Visits", "Add a visit", spoken, Asked("short", "Short label", needed=False)
            ),
            _in_other_words(known, "eligibility.criteria", "Criteria", "Add a criterion"),
            _in_other_words(known, "screen_failure_reasons", "Why somebody does not take part", "Add a reason"),
            _in_other_words(
                known,
                "consent.questions",
                "Questions about the consent document",
                "Add a question",
                spoken,
                Asked("hint", "Said after a wrong answer"),
                Asked("choices", "Choices", CHOICES),
            ),
            _in_other_words(
                known,
                "consent.optional",
                "What a participant may refuse and still take part",
                "Add an optional consent",
            ),
            _in_other_words(known, "missing_codes", "Reasons why there is no answer", "Add a reason"),
            _in_other_words(known, "withdrawal_levels", "How far a participant can withdraw", "Add a level"),
            Rows(
                "outcomes",
                "Outcomes",
                "Add an outcome",
                outcome,
                {"item": "item", "visit": "visit", "label": "New"},
                is_table=True,
            ),
            _in_other_words(known, "safety.terms", "Terms", "Add a term"),
            _in_other_words(known, "safety.severity", "Severity", "Add a grade"),
            _in_other_words(known, "safety.relatedness", "Relatedness", "Add an answer"),
            _in_other_words(known, "safety.clocks", "Deadlines", "Add a deadline"),
            _in_other_words(known, "safety.deviations", "Deviations", "Add a kind"),
            _in_other_words(known, "unblinding.reasons", "Reasons of an emergency", "Add a reason"),
            _in_other_words(known, "dictionaries", "Dictionaries", "Add a dictionary"),
            _in_other_words(known, "allocation.strata", "Strata", "Add a stratum", spoken, levels),
            _in_other_words(known, "arms", "Arms", "Add an arm"),
            _in_other_words(known, f"{first}.strata", "Strata of the first stage", "Add a stratum", spoken, levels),
            _in_other_words(known, f"{first}.groups", "Groups of the first stage", "Add a group"),
            _in_other_words(known, "blinding_assessment", "Guesses of the arm", "Add a guess"),
            _sessions(known, modules),
        ),
        hint="By the codes of study.yaml. What is left out stays as the study words it. As there, only unblinded "
        "people read arms, groups, guesses and sessions.",
    )


def document(known: Known) -> Sheet:
    """The head of a consent document; its text is edited as text."""
    return Sheet(
        "Consent document",
        (
            Asked("title", "Title"),
            Asked("version", "Version", hint="A change of even one letter needs a document with a new version."),
            Asked("language", "Language", needed=True, hint="Such as en or de"),
            Asked("valid_from", "Valid from", needed=True, hint="A day such as 2026-01-01"),
            Asked("sites", "At the sites", CODES, known.of("sites"), hint="None: at all of them."),
        ),
        hint="Its text is edited as text, with what the participant sees below.",
    )


OF_THE_STUDY: dict[str, Callable[[Known], Sheet]] = {
    "general": general,
    "arms": arms,
    "stage": stage,
    "groups": groups,
    "eligibility": eligibility,
    "consent": consent,
    "visits": visits,
    "unscheduled": unscheduled,
    "schedule": schedule,
    "treatment": treatment,
    "outcomes": outcomes,
    "unblinding": unblinding,
    "guesses": guesses,
    "missing": missing,
    "safety": safety,
    "coding": coding,
    "notes": notes,
}
"""The pages of study.yaml, in order, by the last part of their address."""


def parts_of(files: Collection[str]) -> dict[str, str]:
    """Every page that the files of a draft have beside those of instruments, and its file."""
    found = dict.fromkeys(OF_THE_STUDY, STUDY) if STUDY in files else {}
    for path in sorted(files, reverse=True):
        if path.startswith("study.") and path.endswith(".yaml") and path != STUDY:
            found[f"words.{path[6:-5]}"] = path
        elif path.startswith("consent/") and path.endswith(".md"):
            found[f"document.{path[8:-3]}"] = path
    return found


def sheet_of(part: str, known: Known) -> Sheet:
    """The fields of a page."""
    kind = part.partition(".")[0]
    return {"words": words, "document": document, **OF_THE_STUDY}[kind](known)
