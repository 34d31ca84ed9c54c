"""What is a downtime pack handed over as? A file and a letter for those who treat, and slips for those who enrol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from app.foundation.languages import translations
from app.printing import Record, Slips, offline_file, record_pdf, slips_pdf


@dataclass(frozen=True)
class Paper:
    """One file of a pack: its name, its kind, and what is in it."""

    name: str
    media_type: str
    body: bytes


def papers(
    content: Mapping[str, Any],
    slips: Sequence[tuple[str, str, str]],
    passphrase: str,
    *,
    mark: str,
    at: datetime,
    language: str,
) -> tuple[Paper, Paper, Paper]:
    """The file, the letter with its passphrase, and the slips; `slips` are (name, stratum in words, code) in order.

    Who holds the slips must not hold the other two: neither half opens an arm.
    """
    gettext = translations(language).gettext
    where = f"{content['title']} · {content['site']}"
    pack = gettext("Downtime pack %s") % content["pack"]
    footer = f"{content['study']} · {pack} · {mark}"
    stem = f"{content['study']}-downtime-{content['pack']}"
    letter = Record(
        title=gettext("For those who treat: how to open an arm when the server cannot be reached"),
        subtitle=where,
        intro=[
            gettext(
                "Keep this letter and the file away from everybody who enrols or assesses. With them and the code on a "
                "slip, the arm of one participant is shown, on any computer with a browser and without a network."
            )
        ],
        rows=[
            (gettext("Pack"), str(content["pack"]), "text"),
            (gettext("Passphrase"), passphrase, "code"),
            (gettext("File"), f"{stem}.html", "text"),
            (gettext("Mark of the file"), mark, "code"),
        ],
        notes=[
            gettext(
                "Open the file, choose the stratum, and type the passphrase and the number and code of the slip that "
                "whoever enrols hands you. Keep the slip in the patient's treatment notes, and tell nobody the arm who "
                "is to stay blinded."
            ),
            gettext(
                "Slips are used in their order, one for each participant, and never twice. When the server is back, "
                "whoever enrols enters each slip; from then on the arm is also shown here."
            ),
            gettext("When the pack is closed, destroy this letter, the file and every slip that is left."),
        ],
        footer=footer,
        lines=[gettext("Received, date"), gettext("Destroyed, date")],
    )
    sheets = [
        (stratum, [(name, code) for name, _, code in some])
        for stratum, some in groupby(slips, key=lambda slip: slip[1])
    ]
    cut = Slips(
        title=gettext("For those who enrol: slips for when the server cannot be reached"),
        subtitle=f"{where} · {pack}",
        intro=[
            gettext(
                "Use these only while Equipoise cannot be reached. Check eligibility, consent and the baseline on "
                "paper first, as the protocol asks."
            ),
            gettext(
                "Then take the next slip of the participant's stratum, in the order of the numbers. Fill it in, copy "
                "its number into your records, and hand it to whoever treats: only they can open the arm. Do not ask "
                "for it, and do not look on."
            ),
            gettext("Never take a slip twice, out of order, or before somebody is to be randomised at once."),
            gettext(
                "When the server is back, enter the participant as usual, then choose “Randomised on paper” on the "
                "participant's page for randomisation, slip by slip in their order. Tell the trial statistician of "
                "every slip that was spoilt or lost."
            ),
        ],
        head=where,
        blanks=[gettext("Participant"), gettext("Day and time"), gettext("Taken by, signature")],
        sheets=sheets,
        footer=footer,
    )
    return (
        Paper(f"{stem}.html", "text/html", offline_file(content, _words(gettext, where, mark), language=language)),
        Paper(f"{stem}-letter.pdf", "application/pdf", record_pdf(letter, at=at, language=language)),
        Paper(f"{stem}-slips.pdf", "application/pdf", slips_pdf(cut, at=at, language=language)),
    )


def _words(gettext: Any, where: str, mark: str) -> dict[str, Any]:
    """What the file says; `{slip}` stands where the number of a slip is put."""
    return {
        "title": gettext("Open one arm while the server is away"),
        "lead": where,
        "steps": [
            gettext("Whoever enrols hands you the next slip of the participant's stratum."),
            gettext("Type its number, its code and the passphrase of your letter."),
            gettext("Keep the arm from everybody who is blinded."),
        ],
        "script": gettext("This file needs a browser that runs scripts. Open it in another browser."),
        "stratum": gettext("Stratum on the slip"),
        "number": gettext("Number of the slip"),
        "code": gettext("Code on the slip"),
        "passphrase": gettext("Passphrase"),
        "anyway": gettext("Open this slip out of its order; the reason is in our records"),
        "open": gettext("Open the arm"),
        "opening": gettext("Opening"),
        "next": gettext("The next slip here is {slip}."),
        "none": gettext("Every slip of this stratum was opened with this file."),
        "unknown": gettext("There is no slip with this number in this stratum. Check both on the slip."),
        "order": gettext(
            "This is not the next slip of its stratum on this computer. Check the number; if another computer was used "
            "for the slips before, tick the box and go on."
        ),
        "both": gettext("Type the code on the slip and the passphrase."),
        "browser": gettext("This browser cannot open it. Save the file on the computer and open it there."),
        "wrong": gettext("This does not open. Check stratum, number, code and passphrase, letter by letter."),
        "slip": gettext("Slip {slip}"),
        "after": gettext("Write this slip's number and the participant's code into the treatment notes now."),
        "hide": gettext("Hide the arm"),
        "foot": gettext("Mark of this file: %s. It reaches no network and sends nothing.") % mark,
    }
