"""How is it said what going over to a version means? The same counts in the same words on the page and the terminal."""

from app.amendments.reads import Totals
from app.amendments.rules import Becomes
from app.schedule.replanning.rules import Step
from app.studies.definition import Study

OF_VISITS = {
    Step.MOVED: ("One visit moves", "{count} visits move"),
    Step.ADDED: ("One visit is added", "{count} visits are added"),
    Step.STOPPED: ("One planned visit is no longer due", "{count} planned visits are no longer due"),
}
OF_ENTRIES = {
    Becomes.INCOMPLETE: ("One entry is no longer complete", "{count} entries are no longer complete"),
    Becomes.COMPLETE: ("One entry is complete that was not", "{count} entries are complete that were not"),
    Becomes.CHECK: ("In one entry a check does not hold", "In {count} entries a check does not hold"),
    Becomes.SCORE: ("In one entry a score is another one", "In {count} entries a score is another one"),
    Becomes.HIDDEN: ("In one entry an answer is no longer asked", "In {count} entries an answer is no longer asked"),
    Becomes.NOT_ASKED: (
        "One entry stays of a form that is no longer asked there",
        "{count} entries stay of a form that is no longer asked there",
    ),
}


def counted(words: tuple[str, str], count: int) -> str:
    """The words for one, or for many."""
    return words[0] if count == 1 else words[1].format(count=f"{count:,}")


def effect_in_words(totals: Totals, old: Study, new: Study) -> list[str]:
    """What many effects come to, one sentence each; the first says of how many people."""
    if not totals.participants:
        return ["There is nobody at this site yet."]
    people = counted(("One participant", "{count} participants"), totals.participants)
    concerned = counted(("it means something for one", "it means something for {count}"), totals.concerned)
    said = [f"{people}: {concerned}."]
    for (step, code), count in sorted(totals.visits.items()):
        visit = new.visit(code) or old.visit(code)
        said.append(f"{visit.label if visit else code}: {_small(counted(OF_VISITS[Step(step)], count))}.")
    for (becomes, code), count in sorted(totals.entries.items()):
        form = new.instrument(code) or old.instrument(code)
        said.append(f"{form.label if form else code}: {_small(counted(OF_ENTRIES[Becomes(becomes)], count))}.")
    for count, words in (
        (totals.kept, ("One visit is under a lock, and stays", "{count} visits are under a lock, and stay")),
        (
            totals.outside,
            ("One appointment lies outside the new window", "{count} appointments lie outside the new window"),
        ),
        (totals.owing, ("One participant owes a newer consent", "{count} participants owe a newer consent")),
        (
            totals.signatures,
            (
                "One signature is superseded once its entry is saved again",
                "{count} signatures are superseded once their entries are saved again",
            ),
        ),
        (
            totals.casebooks,
            ("So is the signature of one casebook", "So are the signatures of {count} casebooks"),
        ),
    ):
        if count:
            said.append(f"{counted(words, count)}.")
    return said


def _small(words: str) -> str:
    return words[0].lower() + words[1:]
