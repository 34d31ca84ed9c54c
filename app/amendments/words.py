"""How is it said what going over to a version means? The same counts in the same words on the page and the terminal."""

from collections.abc import Callable

from app.amendments.reads import Totals
from app.amendments.rules import Becomes, Verified
from app.schedule.replanning.rules import Step
from app.studies.definition import Study

OF_VISITS = {
    Step.MOVED: ("one visit moves.", "{count} visits move."),
    Step.ADDED: ("one visit is added.", "{count} visits are added."),
    Step.STOPPED: ("one planned visit is no longer due.", "{count} planned visits are no longer due."),
}
OF_ENTRIES = {
    Becomes.INCOMPLETE: ("one entry is no longer complete.", "{count} entries are no longer complete."),
    Becomes.COMPLETE: ("one entry is complete that was not.", "{count} entries are complete that were not."),
    Becomes.CHECK: ("in one entry a check does not hold.", "in {count} entries a check does not hold."),
    Becomes.SCORE: ("in one entry a score is another one.", "in {count} entries a score is another one."),
    Becomes.HIDDEN: ("in one entry an answer is no longer asked.", "in {count} entries an answer is no longer asked."),
    Becomes.NOT_ASKED: (
        "one entry stays of a form that is no longer asked there.",
        "{count} entries stay of a form that is no longer asked there.",
    ),
}
OF_VERIFIED = {
    Verified.TO_VERIFY: (
        "One entry is to be compared with its source that was not.",
        "{count} entries are to be compared with their sources that were not.",
    ),
    Verified.VERIFIED: (
        "One entry counts as verified that did not.",
        "{count} entries count as verified that did not.",
    ),
    Verified.NOT_ASKED: (
        "One entry is no longer compared with its source.",
        "{count} entries are no longer compared with their sources.",
    ),
}


def counted(words: tuple[str, str], count: int) -> str:
    """The words for one, or for many."""
    return words[0] if count == 1 else words[1].format(count=f"{count:,}")


def effect_in_words(totals: Totals, old: Study, new: Study, tell: Callable[[str], str] = str) -> list[str]:
    """What many effects come to, one sentence each; the first says of how many people.

    `tell` knows a sentence of ours in the reader's language; what a visit or a form is called stays as it is.
    """
    if not totals.participants:
        return [tell("There is nobody at this site yet.")]
    said = [tell(_of_people(totals))]
    for (step, code), count in sorted(totals.visits.items()):
        visit = new.visit(code) or old.visit(code)
        said.append(f"{visit.label if visit else code}: {tell(counted(OF_VISITS[Step(step)], count))}")
    for (becomes, code), count in sorted(totals.entries.items()):
        form = new.instrument(code) or old.instrument(code)
        said.append(f"{form.label if form else code}: {tell(counted(OF_ENTRIES[Becomes(becomes)], count))}")
    for count, words in (
        (totals.kept, ("One visit is under a lock, and stays.", "{count} visits are under a lock, and stay.")),
        (
            totals.outside,
            ("One appointment lies outside the new window.", "{count} appointments lie outside the new window."),
        ),
        (totals.owing, ("One participant owes a newer consent.", "{count} participants owe a newer consent.")),
        (
            totals.signatures,
            (
                "One signature is superseded once its entry is saved again.",
                "{count} signatures are superseded once their entries are saved again.",
            ),
        ),
        (
            totals.casebooks,
            ("So is the signature of one casebook.", "So are the signatures of {count} casebooks."),
        ),
        *((totals.verified[what], words) for what, words in OF_VERIFIED.items()),
    ):
        if count:
            said.append(tell(counted(words, count)))
    return said


def _of_people(totals: Totals) -> str:
    people, concerned = f"{totals.participants:,}", f"{totals.concerned:,}"
    if totals.participants == 1:
        return (
            "One participant: it means something for one." if totals.concerned else "One participant: it means nothing."
        )
    if totals.concerned == 1:
        return f"{people} participants: it means something for one."
    if not totals.concerned:
        return f"{people} participants: it means nothing for any of them."
    return f"{people} participants: it means something for {concerned}."
