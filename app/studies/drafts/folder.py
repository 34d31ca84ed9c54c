"""How do a draft's files and a study say the same? Checking files like a folder, and writing a version as files."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from csv import writer
from functools import lru_cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from app.studies.definition import ConsentDocument, Study
from app.studies.loading import read_folder
from app.studies.rules import Finding

_BEYOND = {"instruments", "consent_documents", "dictionaries", "texts"}


def checked(files: Mapping[str, str]) -> tuple[Study | None, tuple[Finding, ...]]:
    """What `equipoise study check` says of these files: the study, and every finding; None when there is an error."""
    return _checked(tuple(sorted(files.items())))


@lru_cache(maxsize=16)
def _checked(files: tuple[tuple[str, str], ...]) -> tuple[Study | None, tuple[Finding, ...]]:
    with TemporaryDirectory(prefix="equipoise-draft-") as made:
        for path, text in files:
            file = Path(made) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
        study, findings = read_folder(Path(made))
    return study, tuple(findings)


def said_in_yaml(value: Any) -> str:
    """Data as YAML in the order it has: short groups on one line, texts as they are."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def files_of(study: Study) -> dict[str, str]:
    """A loaded version as the files of a folder that reads as the very same definition.

    How it was once written (comments, order of keys) is not kept with a version. A consent document gets its very bytes
    back where one of the usual ways to write it has its SHA-256; else it is written anew, and its SHA-256 is another.
    """
    said = study.model_dump(mode="json", exclude_defaults=True, exclude=_BEYOND)
    files: dict[str, str] = {}
    if study.dictionaries:
        said["dictionaries"] = [
            each.model_dump(mode="json", exclude_defaults=True, exclude={"terms"}) for each in study.dictionaries
        ]
    files["study.yaml"] = said_in_yaml(said)
    for said_in in study.texts:
        own = said_in.model_dump(mode="json", exclude_defaults=True, exclude={"language"})
        files[f"study.{said_in.language}.yaml"] = said_in_yaml(own)
    for form in study.instruments:
        shown = form.model_dump(mode="json", exclude_defaults=True, exclude={"texts"})
        files[f"instruments/{form.code}.yaml"] = said_in_yaml(shown)
        for text in form.texts:
            words = text.model_dump(mode="json", exclude_defaults=True, exclude={"language"})
            files[f"instruments/{form.code}.{text.language}.yaml"] = said_in_yaml(words)
    for document in study.consent_documents:
        sites = f".{'.'.join(document.sites)}" if document.sites else ""
        path = f"consent/v{document.version}.{document.language}{sites}.md"
        while path in files:
            path = path.removesuffix(".md") + "_.md"
        files[path] = _consent(document)
    for dictionary in study.dictionaries:
        if dictionary.terms:
            rows = [(term.code, term.label, term.parent or "") for term in dictionary.terms]
            files[f"dictionaries/{dictionary.code}.csv"] = _csv([("code", "label", "parent"), *rows])
    return files


def _csv(rows: Iterable[tuple[str, ...]]) -> str:
    written = io.StringIO()
    writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()


def _consent(document: ConsentDocument) -> str:
    own = _front(document, version=f"version: '{document.version}'\n", title=None)
    versions = [f"version: {quote}{document.version}{quote}\n" for quote in ('"', "", "'")]
    titles = (f"title: {document.title}\n", None)
    for version, title, gap, end in product(versions, titles, ("", "\n"), ("\n", "")):
        text = _front(document, version=version, title=title) + gap + document.text + end
        if hashlib.sha256(text.encode()).hexdigest() == document.sha256:
            return text
    return f"{own}{document.text}\n"


def _front(document: ConsentDocument, *, version: str, title: str | None) -> str:
    said = f"title: {json.dumps(document.title, ensure_ascii=False)}\n" if title is None else title
    sites = f"sites: [{', '.join(document.sites)}]\n" if document.sites else ""
    day = document.valid_from.isoformat()
    return f"---\n{version}language: {document.language}\n{said}valid_from: {day}\n{sites}---\n"


def smallest(code: str, title: str) -> dict[str, str]:
    """The smallest folder without an error, to begin with: one site, two arms, one visit, one question, one consent."""
    study = {
        "code": code,
        "version": "1",
        "title": title,
        "short_title": title[:40],
        "target": 40,
        "sites": [{"code": "site1", "name": "Clinic", "timezone": "UTC"}],
        "arms": [{"code": "a", "label": "Arm A"}, {"code": "b", "label": "Arm B"}],
        "allocation": {"method": "permuted_blocks"},
        "eligibility": {
            "instrument": "prescreen",
            "criteria": [{"code": "adult", "label": "Aged 18 or over", "kind": "inclusion", "rule": "[age] >= 18"}],
        },
        "visits": [
            {
                "code": "baseline",
                "label": "Baseline",
                "kind": "baseline",
                "anchor": "consent",
                "day": 0,
                "window": {"before": 0, "after": 14},
                "instruments": ["outcome"],
            }
        ],
        "withdrawal_levels": [{"code": "visits", "label": "No more visits", "stops_visits": True}],
    }
    age = {"code": "age", "label": "Age", "type": "integer", "unit": "years", "min": 0, "max": 120}
    pain = {"code": "pain_nrs", "label": "Pain, past week", "type": "scale", "min": 0, "max": 10}
    forms = {
        "prescreen": {
            "code": "prescreen",
            "label": "Pre-screen",
            "respondent": "coordinator",
            "source": "This study",
            "sections": [{"items": [age]}],
        },
        "outcome": {
            "code": "outcome",
            "label": "Outcome",
            "source": "This study",
            "sections": [{"label": "Pain", "items": [pain]}],
        },
    }
    consent = '---\nversion: "1"\nlanguage: en\ntitle: Information and consent\nvalid_from: 2026-01-01\n---\n'
    return {
        "study.yaml": said_in_yaml(study),
        **{f"instruments/{name}.yaml": said_in_yaml(form) for name, form in forms.items()},
        "consent/v1.en.md": f"{consent}Replace this text by the document that your ethics committee approved.\n",
    }
