"""Where does one call stand? The study in these clients' words, its groups, and what this token may do there."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from fastapi.responses import Response

from app.api.redcap.answers import Listing, Shape, as_json, listing, plain
from app.api.redcap.data import whole_number
from app.api.redcap.decoding import Call
from app.api.redcap.dictionary import Event, Form, Group, Project, groups_of, project_of
from app.api.redcap.errors import NO_EXPORT, NO_IMPORT, Wrong, not_valid
from app.dependencies import Here
from app.foundation.errors import NotAllowed, Refused
from app.participants.reads import code_of
from app.people.access import may, sites_for, why_not
from app.people.permissions import Permission
from app.people.reads import sites_of
from app.studies.drafts.reads import Draft
from app.studies.reads import every_definition

EXPORTING = (Permission.EXPORT_RUN, Permission.ENTRY_READ)
"""Who takes tables, and who reads entries one by one: the same rows, at the sites where they may."""


@dataclass
class Asked:
    """One call, and what it takes to answer it."""

    here: Here
    call: Call
    draft: Draft | None = None
    """The draft that this token is for; `here.the_study` is then what it says, and has nobody in it."""

    @cached_property
    def project(self) -> Project:
        """The study, in the words of these clients."""
        study = self.here.the_study
        if self.draft is not None:
            return project_of([study.definition], every_form=True)
        return project_of(every_definition(self.here.session, study.id, study.version_id))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every site, as a data access group."""
        return groups_of(sites_of(self.here.session, self.here.the_study.id))

    @cached_property
    def group_of_site(self) -> dict[int, Group]:
        return {group.id: group for group in self.groups}

    def code(self, name: str) -> str:
        """The code of the participant that a record's name means: a number alone is that number's."""
        number = whole_number(name)
        if number.isascii() and number.isdigit() and len(number) < 10:
            return code_of(self.here.the_study.definition, int(number))
        return name

    @property
    def is_numbered(self) -> bool:
        """Whether records are named by a number alone. Clients that are told so read the names as whole numbers."""
        return code_of(self.here.the_study.definition, 1).isdigit()

    @property
    def record(self) -> str:
        """The code of the record that was named, blank for none."""
        return self.code(self.call.text("record"))

    @property
    def records(self) -> tuple[str, ...]:
        """The codes of the records that were named."""
        return tuple(dict.fromkeys(map(self.code, self.call.names("records"))))

    def event_for(self, form: Form, *, changing: bool = False) -> Event:
        """The event that was named; without a name the first one at which this form is filled in.

        What changes something (`changing`) has to name it where there are several: the first one would be a guess.
        """
        name = self.call.text("event")
        at = [each for each in self.project.events if form.name in each.forms and name in ("", each.name)]
        if not at:
            raise not_valid("event")
        if changing and len(at) > 1:
            listed = ", ".join(each.name for each in at)
            raise Wrong(
                f'The form {form.name} is filled in at several events. Name one in the parameter "event": {listed}.'
            )
        return at[0]

    @property
    def shape(self) -> Shape:
        return self.call.shape

    @cached_property
    def exporting(self) -> Permission:
        """The permission by which records are exported; NotAllowed without any."""
        actor = self.here.actor
        for permission in EXPORTING:
            if may(actor, permission):
                return permission
        raise NotAllowed(
            f"{NO_EXPORT}. {why_not(actor, Permission.EXPORT_RUN)}", action="export.run", subject="/export/redcap"
        )

    @property
    def is_in_group(self) -> bool:
        """Whether this person sees some sites only."""
        return sites_for(self.here.actor, self.exporting) is not None

    def require_study(self) -> None:
        """NotAllowed unless the token may read what the study asks."""
        if reason := why_not(self.here.actor, Permission.STUDY_READ):
            raise NotAllowed(f"{NO_EXPORT}. {reason}", action="study.read", subject="/redcap")

    def require_import(self, *permissions: Permission) -> None:
        """NotAllowed unless the token holds one of these."""
        if not any(may(self.here.actor, permission) for permission in permissions):
            raise NotAllowed(NO_IMPORT, action="record.import", subject="/redcap")

    def refused(self, reason: str, action: str) -> Refused:
        """What our promises forbid, and why; that it was tried is written down."""
        return Refused(reason, action=action, subject="/redcap")

    @property
    def wants_json(self) -> bool:
        """Whether JSON was asked for by name: then whatever is answered is read as JSON."""
        return self.call.text("format").lower() == "json"

    def done(self) -> Response:
        """That it was done, where there is nothing to say: an empty body, or the emptiest JSON."""
        return as_json([]) if self.wants_json else plain("")

    def answer(self, found: Listing) -> Response:
        """A list, in the format that was asked for."""
        return listing(found, self.shape)


Handler = Callable[[Asked], Response]
