"""What exactly is this definition? One text per study, its SHA-256, and the JSON Schema that study files follow."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.studies.definition import Instrument, InstrumentText, Study, StudyFile, StudyText

# Parts that a definition has got since versions were first loaded: where nothing is said of them, a study is what it
# was, and a version that was loaded before compares as equal.
SINCE_THE_FIRST = (
    "unblinding",
    "blinding_assessment",
    "schedule",
    "safety.coding",
    "safety",
    "oversight.verification",
    "oversight.to_verify",
    "oversight",
    "placeholders",
    "record_id",
    "unscheduled",
    "allocation.first_stage",
    "allocation.group",
    "sites[].target",
    "texts[].title",
    "texts[].arms",
    "texts[].allocation",
    "texts[].eligibility",
    "texts[].visits",
    "texts[].unscheduled",
    "texts[].outcomes",
    "texts[].withdrawal_levels",
    "texts[].screen_failure_reasons",
    "texts[].unblinding",
    "texts[].safety",
    "texts[].dictionaries",
    "texts[].blinding_assessment",
    "texts[].treatment",
    "texts",
    "instruments[].presentation",
    "instruments[].texts[].scoring",
    "instruments[].texts[].repeat_label",
    "instruments[].texts",
    "instruments[].sections[].layout",
    "instruments[].sections[].items[].precision",
    "instruments[].sections[].items[].show_value",
    "instruments[].sections[].items[].kinds",
    "instruments[].sections[].items[].max_mb",
    "treatment[].modules[].items[].precision",
    "treatment[].modules[].items[].show_value",
    "treatment[].modules[].items[].kinds",
    "treatment[].modules[].items[].max_mb",
    "consent.questions",
    "consent.blocked_until_reconsent",
    "consent_documents[].sites",
    "withdrawal_levels[].stops_treatment",
    "withdrawal_levels[].stops_contact",
    "withdrawal_levels[].stops_use",
    "withdrawal_levels[].erases_identity",
    "double_entry",
    "dictionaries",
    "visits[].double_entry",
    "visits[].casebook_signature",
    "instruments[].double_entry",
    "instruments[].sections[].items[].coding",
    "treatment[].modules[].items[].coding",
    "instruments[].repeats",
    "instruments[].max_repeats",
    "instruments[].repeat_label",
    "instruments[].sections[].code",
    "instruments[].sections[].repeats",
    "instruments[].sections[].max_rows",
)


def canonical(study: Study) -> str:
    """The whole definition as JSON: sorted keys, no spaces, every default spelt out, decimals as texts."""
    said = study.model_dump(mode="json")
    for path in SINCE_THE_FIRST:
        _leave_out(said, study, path)
    return json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _leave_out(said: dict[str, Any], part: BaseModel, path: str) -> None:
    """Take a part out of what is said where it is as by default; `a[].b` is b of each in the list a."""
    name, _, rest = path.partition(".")
    if name.endswith("[]"):
        name = name.removesuffix("[]")
        for one, of in zip(said[name], getattr(part, name), strict=True):
            _leave_out(one, of, rest)
    elif rest:
        _leave_out(said[name], getattr(part, name), rest)
    elif getattr(part, name) == type(part).model_fields[name].get_default(call_default_factory=True):
        del said[name]


def fingerprint(study: Study) -> str:
    """SHA-256 of the canonical JSON in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(study).encode()).hexdigest()


def study_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of study.yaml ($defs/StudyFile), of instruments/*.yaml ($defs/Instrument) and of the words of
    both in other languages ($defs/StudyText, $defs/InstrumentText).
    """
    parts: tuple[type[BaseModel], ...] = (StudyFile, Instrument, InstrumentText, StudyText)
    _, schema = models_json_schema([(part, "validation") for part in parts])
    for part in (InstrumentText, StudyText):  # the name of their file says the language
        words = schema["$defs"][part.__name__]
        del words["properties"]["language"]
        words["required"] = [name for name in words["required"] if name != "language"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Equipoise study folder",
        "description": "study.yaml and instruments/*.yaml. Whether the parts fit together is checked on loading.",
        "anyOf": [{"$ref": f"#/$defs/{part.__name__}"} for part in parts],
        "$defs": schema["$defs"],
    }
