"""Study: the protocol in force, in readable form, and who may do what in it."""

from typing import Any

from fastapi.responses import JSONResponse, Response

from app.dependencies import Here, PageInStudy
from app.exports.reads import planned
from app.foundation.languages import Gettext, translations
from app.people.access import may, require
from app.people.permissions import TABLE, Permission, Role
from app.people.scopes import SAID
from app.studies.definition import Instrument, Item, ItemType, Study, Visit
from app.studies.reads import versions
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.tables import kept_as

router = pages()

METHODS = {
    "permuted_blocks": "Permuted blocks",
    "simple": "Simple randomisation",
    "big_stick": "Big stick",
    "maximal_procedure": "Maximal procedure",
    "wei_urn": "Wei's urn",
    "truncated_binomial": "Truncated binomial",
    "biased_coin": "Biased coin",
    "cluster": "Whole sites, drawn together",
    "list": "A list drawn elsewhere",
    "minimisation": "Minimisation",
    "observed": "Not allocated: groups are observed",
}
KINDS = {"baseline": "Baseline", "treatment": "Treatment session", "assessment": "Assessment"}
TYPES = {
    ItemType.CHOICE: "One of",
    ItemType.CHOICES: "Any of",
    ItemType.YES_NO: "Yes or no",
    ItemType.INTEGER: "Whole number",
    ItemType.NUMBER: "Number",
    ItemType.SCALE: "Scale",
    ItemType.SLIDER: "Line to mark",
    ItemType.DATE: "Date",
    ItemType.DATE_TIME: "Date and time",
    ItemType.TIME: "Time",
    ItemType.TEXT: "Text",
    ItemType.FILE: "File",
    ItemType.SIGNATURE: "Signature",
    ItemType.CALCULATED: "Calculated",
}


@router.get("/{study}/study", name="study.study")
def study(here: PageInStudy) -> Response:
    """The version of the protocol that is in force, as a person reads it."""
    require(here.actor, Permission.STUDY_READ)
    definition = here.the_study.definition
    gettext = translations(here.language).gettext
    loaded = versions(here.session, here.the_study.id)
    places = places_of(here)
    return show_at(
        here,
        places,
        "study/study.html",
        study=definition,
        root=f"/{here.the_study.code}",
        versions=loaded,
        version_id=here.the_study.version_id,
        arms=_arms(here, definition),
        unblinded=not here.actor.blinded,
        locks_url=f"/{here.the_study.code}/study/locks" if may(here.actor, Permission.ENTRY_READ) else None,
        unblinding_url=_unblinding_url(here, definition),
        import_url=f"/{here.the_study.code}/study/import" if may(here.actor, Permission.STUDY_LOAD) else None,
        access_url=f"/{here.the_study.code}/study/access" if may(here.actor, Permission.PEOPLE_MANAGE) else None,
        drafts_url=f"/{here.the_study.code}/study/drafts" if may(here.actor, Permission.STUDY_LOAD) else None,
        method=METHODS[definition.allocation.method],
        visits=[_visit(definition, visit) for visit in definition.visits],
        instruments=[_instrument(definition, form, gettext) for form in definition.instruments],
        outcomes=[_outcome(definition, index) for index in range(len(definition.outcomes))],
        timezone=places.timezone(),
    )


@router.get("/{study}/study/usdm.json", name="study.usdm")
def usdm(here: PageInStudy) -> Response:
    """The plan of the study as USDM, for systems that read a protocol; arms by number for whoever is blinded."""
    definition = here.the_study.definition
    name = f"{definition.code}-{definition.version}-usdm.json"
    return JSONResponse(planned(here.the_study.own, by=here.actor), headers=kept_as(name))


@router.get("/{study}/study/roles", name="study.roles")
def roles(here: PageInStudy) -> Response:
    """Who may do what: the very table that every action asks."""
    require(here.actor, Permission.STUDY_READ)
    return show_at(
        here,
        places_of(here),
        "study/roles.html",
        root=f"/{here.the_study.code}",
        roles=[(role, role.replace("_", " ").capitalize(), role in here.actor.roles) for role in Role],
        rows=[(str(permission), SAID[permission], holders) for permission, holders in TABLE.items()],
    )


def _unblinding_url(here: Here, definition: Study) -> str:
    """Where unblinding is read of, or else recorded; nowhere in a study that allocates nobody."""
    root = f"/{here.the_study.code}/study/unblinding"
    if not definition.is_allocated:
        return ""
    if may(here.actor, Permission.UNBLINDING_READ):
        return root
    return f"{root}/learnt" if may(here.actor, Permission.UNBLINDING_RECORD) else ""


def _arms(here: Here, definition: Study) -> dict[str, Any]:
    """Blinded eyes learn how many groups there are and in which ratio, and no more."""
    return {
        "count": len(definition.arms),
        "ratio": ":".join(str(arm.ratio) for arm in definition.arms),
        "named": [] if here.actor.blinded else definition.arms,
    }


def _visit(definition: Study, visit: Visit) -> dict[str, Any]:
    forms = [definition.instrument(code) for code in visit.instruments]
    return {
        "visit": visit,
        "kind": KINDS[visit.kind],
        "forms": ", ".join(form.short or form.label for form in forms if form),
    }


def _instrument(definition: Study, form: Instrument, gettext: Gettext) -> dict[str, Any]:
    at = [visit.short or visit.label for visit in definition.visits if form.code in visit.instruments]
    if form.code == definition.eligibility.instrument:
        at.insert(0, gettext("Screening"))
    return {
        "form": form,
        "at": ", ".join(at),
        "asked": sum(1 for item in form.items if item.type is not ItemType.CALCULATED),
        "rows": [
            (section.label, [(item, _answers(item, gettext)) for item in section.items]) for section in form.sections
        ],
    }


def _answers(item: Item, gettext: Gettext) -> str:
    """What may be answered: kind, range, unit and choices, in words."""
    said = gettext(TYPES[item.type])
    if item.choices:
        return f"{said}: " + "; ".join(f"{choice.label} ({choice.code})" for choice in item.choices)
    if item.min is not None and item.max is not None:
        said += gettext(" {low} to {high}").format(low=f"{item.min:f}", high=f"{item.max:f}")
    elif item.min is not None:
        said += gettext(" from {low}").format(low=f"{item.min:f}")
    elif item.max is not None:
        said += gettext(" up to {high}").format(high=f"{item.max:f}")
    if item.unit:
        said += f" {item.unit}"
    if item.low_label or item.high_label:
        said += gettext(" ({low} to {high})").format(low=item.low_label or "…", high=item.high_label or "…")
    if item.expected_min is not None or item.expected_max is not None:
        low = f"{item.expected_min:f}" if item.expected_min is not None else "…"
        high = f"{item.expected_max:f}" if item.expected_max is not None else "…"
        said += gettext("; expected {low} to {high}, else a reason is asked for").format(low=low, high=high)
    return said


def _outcome(definition: Study, index: int) -> dict[str, str]:
    outcome = definition.outcomes[index]
    form, visit = definition.instrument(outcome.instrument), definition.visit(outcome.visit)
    item = form.item(outcome.item) if form else None
    measure = " · ".join(part for part in (form.label if form else "", item.label if item else outcome.item) if part)
    return {
        "label": outcome.label,
        "kind": outcome.kind.capitalize(),
        "measure": measure,
        "visit": visit.label if visit else outcome.visit,
    }
