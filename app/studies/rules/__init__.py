"""What is true of a study definition? Whether its parts fit, what it is in canonical form, and when visits are due."""

from app.studies.rules.amending import AtRisk, Concern, Difference, Risk, Topic, differences
from app.studies.rules.blinding import names_an_arm, words_of_an_arm
from app.studies.rules.canonical import canonical, fingerprint, study_schema
from app.studies.rules.changes import diff
from app.studies.rules.dates import planned_dates
from app.studies.rules.findings import Finding, Locate, Path, Place, Severity
from app.studies.rules.problems import problems

__all__ = [
    "AtRisk",
    "Concern",
    "Difference",
    "Finding",
    "Locate",
    "Path",
    "Place",
    "Risk",
    "Severity",
    "Topic",
    "canonical",
    "diff",
    "differences",
    "fingerprint",
    "names_an_arm",
    "planned_dates",
    "problems",
    "study_schema",
    "words_of_an_arm",
]
