"""A super token makes drafts of studies, never a study; the token of a draft goes along when a person loads it."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.orm import Session

from app.api.redcap import drafting, projects
from app.audit.actions import ENTRY as AUDIT
from app.exports.formats.standards import Standard
from app.foundation import clock
from app.foundation.database import table_of
from app.foundation.errors import Conflict, NotAllowed
from app.people import actions as people
from app.people.models import ApiToken, Membership
from app.people.permissions import Role
from app.studies.drafts import actions as drafts
from app.studies.drafts import designing
from app.studies.drafts.reads import draft as draft_of
from app.studies.drafts.reads import drafts as drafts_of
from tests.api.redcap.world import Caller, World
from tests.exports.test_definition import written
from tests.factories import definition
from tests.people.conftest import CLI


def super_token(world: World, name: str = "administrator") -> Caller:
    """An administrator of the installation, whose program makes studies."""
    actor, now = world[name].actor, clock.now()
    with world.database.writing() as session:
        if name == "administrator":
            row = {"person_id": actor.person_id, "role": Role.ADMINISTRATOR, "granted_at": now, "granted_by": "test"}
            session.execute(insert(table_of(Membership)).values(row))
        _, token = people.create_super_token(
            session,
            person_id=actor.person_id,
            study_id=world.study.id,
            log=world.study.code,
            name="Builder",
            expires_at=now + timedelta(days=9),
            by=actor,
            now=now,
        )
    assert len(token) == 64
    return Caller(world.http, token, actor)


def create(caller: Caller, title: str = "A new trial", **form: Any) -> Caller:
    data = json.dumps([{"project_title": title, "purpose": 0, **form.pop("more", {})}])
    reply = caller.send("project", format="json", data=data, **form)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert len(reply.text) == 32
    assert set(reply.text) <= set("0123456789ABCDEF")
    return Caller(caller.http, reply.text, caller.actor)


@pytest.mark.requirement("ODM-8", "SEC-22")
def test_project_xml_becomes_a_draft_and_its_token_goes_along_when_a_person_loads_it(world: World):
    builder = super_token(world)
    before = world["both"].json("metadata")
    made = create(builder, odm=world["both"].send("project_xml", returnMetadataOnly="true").text)
    info = made.json("project")
    assert (info["project_title"], info["in_production"], info["production_time"]) == ("A new trial", 0, "")
    assert made.send("version").text == "16.0.8"
    after = {row["field_name"]: row for row in made.json("metadata")}
    assert {row["field_name"] for row in before} <= set(after)
    assert after["pain_nrs"]["field_label"] == "Pain, past week"
    assert {row["unique_event_name"] for row in world["both"].json("event")} <= {
        row["unique_event_name"] for row in made.json("event")
    }
    assert made.json("repeatingFormsEvents")[0]["form_name"] == "falls"
    for content in ("instrument", "exportFieldNames", "formEventMapping", "arm", "event", "metadata"):
        for shape in ("csv", "json", "xml"):
            assert made.send(content, format=shape).status_code == 200
    sent = made.send("formEventMapping", format="csv").text
    assert made.send("formEventMapping", action="import", format="csv", data=sent).status_code == 200
    assert "ClinicalData" not in made.send("project_xml", returnMetadataOnly="true").text
    assert made.send("pdf", instrument="pain").content.startswith(b"%PDF")
    # Nobody is in it, and nothing of the study that it lies beside can be reached with it.
    told = "This study is a draft still: nobody is in it."
    for content in ("record", "user", "dag", "log", "report", "participantList", "generateNextRecordName"):
        assert made.refused(content, record="M-001").startswith(told), content
    assert made.imports([{"participant_id": "M-001"}]).status_code == 400
    assert made.refused("pdf", 403, record="M-001").startswith("You do not have API Export privileges")
    assert "There is one arm" in made.refused("arm", action="delete", arms="1")
    with world.database.writing() as session:
        (line,) = drafts_of(session, world.study, by=builder.actor)
        kept = draft_of(session, world.study, line.number, by=builder.actor)
        assert (line.name, line.origin, kept.errors) == ("A new trial", "super token", 0)
        assert "README-import.md" in kept.files
        version = drafts.load_draft(session, world.study, line.number, by=builder.actor, now=clock.now())
        logged = session.execute(select(AUDIT.c.action).order_by(AUDIT.c.position)).scalars().all()
    assert {"draft.made", "draft.loaded", "token.led_on"} <= set(logged)
    info = made.json("project")
    assert (info["project_id"], info["in_production"]) == (version.study_id, 1)
    assert version.study_id != world.study.id
    assert [row["field_name"] for row in made.json("metadata")] == list(after)
    assert made.json("dag")[0]["unique_group_name"]


def test_a_draft_without_xml_is_the_smallest_study_under_a_code_of_its_own(world: World):
    builder = super_token(world)
    for number in range(2):
        made = create(builder, "Mini")
        assert made.json("project")["project_title"] == "Mini"
        with world.database.reading() as session:
            newest = drafts_of(session, world.study, by=builder.actor)[0]
            text = draft_of(session, world.study, newest.number, by=builder.actor).texts["study.yaml"]
        assert "code: mini_2\n" in text, number  # mini is taken, and would be amended by it
    for form in (
        {"format": "csv", "data": "project_title,purpose\nMini,2\n"},
        {"data": "<item><project_title>Mini</project_title><purpose>4</purpose></item>"},
        {"format": "json", "action": "import", "data": json.dumps({"project_title": "Mini"})},
    ):
        reply = builder.send("project", **form)
        assert (reply.status_code, len(reply.text)) == (200, 32), reply.text
    with world.database.writing() as session:
        drafts.remove_draft(session, world.study, newest.number, by=builder.actor, now=clock.now())
    assert made.refused("metadata").startswith("The draft that this token was for was deleted.")


@contextmanager
def at_work(*work: tuple[Any, str]) -> Iterator[list[int]]:
    """Each time one of these is done: how many sessions had begun to ask the database, and had not ended."""
    begun: set[Session] = set()
    seen: list[int] = []

    def began(session: Session, *_: Any) -> None:
        begun.add(session)

    def ended(session: Session, transaction: Any) -> None:
        if transaction.parent is None:
            begun.discard(session)

    def noted(done: Callable[..., Any], *args: Any, **values: Any) -> Any:
        seen.append(len(begun))
        return done(*args, **values)

    listening = (("after_begin", began), ("after_transaction_end", ended))
    for name, heard in listening:
        event.listen(Session, name, heard)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for where, name in work:
                patch.setattr(where, name, partial(noted, getattr(where, name)))
            yield seen
    finally:
        for name, heard in listening:
            event.remove(Session, name, heard)


def test_what_a_colleague_changed_meanwhile_is_not_overwritten_by_a_whole(world: World):
    """A call reads the draft, works on it, and saves all of it: what somebody else saved in between stays."""
    administrator = super_token(world).actor
    who: dict[str, Any] = {"by": administrator, "now": clock.now()}
    with world.database.writing() as session:
        number = drafts.make_draft(session, world.study, name="Shared", version=None, **who)
        read = draft_of(session, world.study, number, by=administrator)
        file = read.file("instruments/outcome.yaml")
        where: dict[str, Any] = {"path": file.path, "version": file.version}
        drafts.save_file(session, world.study, number, text=f"{file.text}# Theirs\n", **where, **who)
        mine = {**read.texts, file.path: f"{file.text}# Mine\n"}
        with pytest.raises(Conflict, match="Nothing was overwritten"):
            drafts.save_files(session, world.study, read, files=mine, **who)
        now = draft_of(session, world.study, number, by=administrator)
        assert now.file(file.path).text.endswith("# Theirs\n")
        drafts.save_files(session, world.study, now, files=mine, **who)
        assert draft_of(session, world.study, number, by=administrator).file(file.path).text.endswith("# Mine\n")


@pytest.mark.requirement("ODM-8")
def test_a_draft_is_designed_as_clients_design_a_project_in_development(world: World):
    made = create(super_token(world), odm=world["both"].send("project_xml", returnMetadataOnly="true").text)

    def imports(content: str, rows: Any, **form: Any) -> str:
        reply = made.send(content, data=json.dumps(rows), format="json", **form)
        assert reply.status_code == 200, reply.text
        return str(reply.text)

    def events() -> list[str]:
        return [row["unique_event_name"] for row in made.json("event")]

    labels = made.json("instrument")
    rows = made.json("metadata")
    assert imports("metadata", rows) == str(len(rows))
    # The dictionary is exchanged as a whole: one question more, one form less; labels of forms are no part of it.
    at = next(place for place, row in enumerate(rows) if row["field_name"] == "pain_note")
    new = {**dict.fromkeys(rows[0], ""), "field_name": "new_one", "form_name": "pain", "field_type": "text"}
    new |= {"field_label": "New", "text_validation_type_or_show_slider_number": "integer"}
    changed = [row for row in (*rows[: at + 1], new, *rows[at + 1 :]) if row["form_name"] != "diary"]
    slow = ((projects, "checked"), (drafting, "convert"), (designing, "with_instruments"), (drafts, "checked"))
    with at_work(*slow) as sessions:
        assert imports("metadata", changed) == str(len(changed))
    assert sessions == [0] * 4, "nobody who writes waits while a dictionary is converted and a folder is read"
    after = {row["field_name"]: row for row in made.json("metadata")}
    assert set(after) == {row["field_name"] for row in changed}
    assert after["new_one"]["text_validation_type_or_show_slider_number"] == "integer"
    assert made.json("instrument") == [row for row in labels if row["instrument_name"] != "diary"]
    assert "diary" not in {row["form"] for row in made.json("formEventMapping")}
    # Events: a new one, another name for it, forms at it, and gone again.
    before = events()
    week = {"event_name": "Week 52", "arm_num": 1, "day_offset": 364, "offset_min": 7, "offset_max": 14}
    assert imports("event", [week], action="import", override=0) == "1"
    assert events() == [*before, "week_52_arm_1"]
    mapping = made.json("formEventMapping")
    mapping.append({"arm_num": 1, "unique_event_name": "week_52_arm_1", "form": "pain"})
    assert imports("formEventMapping", mapping, action="import") == str(len(mapping))
    assert mapping[-1] in made.json("formEventMapping")
    renamed = {"event_name": "One year", "arm_num": 1, "unique_event_name": "week_52_arm_1"}
    assert imports("event", [renamed], action="import") == "1"
    assert events() == [*before, "one_year_arm_1"]
    early = {"event_name": "One year", "arm_num": 1, "unique_event_name": "one_year_arm_1", "day_offset": 3}
    assert imports("event", [early], action="import") == "1"
    assert sorted(events()) == sorted([*before, "one_year_arm_1"])
    assert events()[-1] == before[-1]
    assert made.send("event", action="delete", **{"events[0]": "one_year_arm_1"}).text == "1"
    assert events() == before
    repeats = [{"event_name": before[-1], "form_name": name, "custom_form_label": ""} for name in ("falls", "pain")]
    assert imports("repeatingFormsEvents", repeats) == "2"
    assert {row["form_name"] for row in made.json("repeatingFormsEvents")} == {"falls", "pain"}
    assert imports("project_settings", {"project_title": "Another", "is_longitudinal": 1}) == "2"
    assert made.json("project")["project_title"] == "Another"
    for form, words in (
        ({"content": "event", "data": '[{"event_name":"X","arm_num":2}]'}, "There is one arm here"),
        ({"content": "event", "data": '[{"arm_num":1}]'}, "Every event needs a name"),
        ({"content": "event", "data": '[{"event_name":"X","day_offset":"x"}]'}, "day_offset is a number of days"),
        (
            {"content": "event", "action": "delete", "events": "screening_arm_1"},
            'in the parameter "events" are not valid',
        ),
        ({"content": "formEventMapping", "data": '[{"unique_event_name":"x","form":"pain"}]'}, "are not valid: 'x'"),
        ({"content": "formEventMapping", "data": json.dumps(mapping[1:])}, "are not valid: 'week_52_arm_1'"),
        ({"content": "formEventMapping", "data": "[]"}, "The mapping has no rows."),
        (
            {
                "content": "formEventMapping",
                "data": json.dumps([{"unique_event_name": "screening_arm_1", "form": "pain"}]),
            },
            "stands the pre-screen, and nothing else",
        ),
        ({"content": "repeatingFormsEvents", "data": '[{"event_name":"baseline_arm_1"}]'}, "cannot repeat"),
        ({"content": "metadata", "data": '[{"field_name":"x"}]'}, "Row 1 of the dictionary has no form_name"),
        ({"content": "metadata", "data": "[]"}, "The dictionary has no fields."),
        ({"content": "project_settings", "data": '{"purpose":4}'}, "This cannot be set: purpose."),
    ):
        assert words in made.refused(format="json", **form), form
    with world.database.reading() as session:
        said = session.execute(
            select(AUDIT.c.action, AUDIT.c.username).order_by(AUDIT.c.position.desc()).limit(1)
        ).one()
    assert tuple(said) == ("draft.changed", "administrator")


DATA = {"project_title": "X", "purpose": 0}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            {"data": json.dumps([{**DATA, "purpose": 1}])},
            "You must provide some text for 'purpose_other' since you specified 'purpose' as '1' (Other).",
        ),
        ({"data": json.dumps([{"purpose": 0}])}, "You must provide some text for 'project_title'."),
        ({"data": json.dumps([{**DATA, "purpose": 7}])}, "The value of 'purpose' is one of 0, 1, 2, 3, 4."),
        ({"data": json.dumps([DATA, DATA])}, "Send one project at a time, as one item of data."),
        ({"data": "[1"}, "The data is not in the specified format."),
        ({"data": json.dumps(DATA), "odm": "<ODM"}, "The ODM could not become a study."),
        ({"data": json.dumps(DATA), "odm": "<!DOCTYPE a []><ODM/>"}, "The ODM could not become a study."),
    ],
    ids=str,
)
def test_what_is_no_project(world: World, form: dict[str, str], message: str):
    builder = super_token(world)
    assert builder.refused("project", format="json", **form).startswith(message)
    with world.database.reading() as session:
        assert drafts_of(session, world.study, by=builder.actor) == []


@pytest.mark.requirement("SEC-22", "SEC-32")
def test_a_super_token_is_for_nothing_else_and_ends_what_it_made(world: World):
    builder = super_token(world)
    for content in ("version", "record", "project", "nonsense"):
        assert builder.refused(content, 403) == "You do not have permissions to use the API"
    unknown = Caller(world.http, "A" * 64, builder.actor)
    data = json.dumps([{**DATA, "purpose": 1}])
    assert unknown.refused("project", 403, data=data, format="json") == "You do not have permissions to use the API"
    lower = Caller(world.http, builder.token.lower(), builder.actor)
    made = create(lower)
    for caller in (builder, made):
        bearer = {"Authorization": f"Bearer {caller.token}"}
        assert world.http.get("/api/v1/studies/mini", headers=bearer).status_code == 401
        assert world.http.get("/api/v1/studies/mini/drafts", headers=bearer).status_code == 401
    assert made.send("version").status_code == 200
    table = table_of(ApiToken)
    with world.database.writing() as session:
        number = session.execute(select(table.c.parent_id).where(table.c.parent_id.is_not(None))).scalar_one()
        people.revoke_token(session, number, by=CLI, now=clock.now())
    assert made.refused("version", 403) == "You do not have permissions to use the API"


@pytest.mark.requirement("SEC-19")
@pytest.mark.parametrize("name", ["both", "coordinator", "clinician", "statistician", "monitor"])
def test_only_who_loads_studies_gets_a_super_token(world: World, name: str):
    with pytest.raises(NotAllowed):
        super_token(world, name)


def dictionary_row(name: str, form: str, kind: str = "text", **more: str) -> dict[str, str]:
    """One row of a dictionary, as a client writes it."""
    return {"field_name": name, "form_name": form, "field_type": kind, "field_label": name.capitalize(), **more}


INTEGER = {"text_validation_type_or_show_slider_number": "integer"}
DICTIONARY = [
    dictionary_row("record_id", "base"),
    dictionary_row("sex", "base", "radio", select_choices_or_calculations="1, Female | 2, Male"),
    dictionary_row("age_y", "base", **INTEGER),
    dictionary_row("twice_age", "ae", "calc", select_choices_or_calculations="round([age_y]*2, 1)"),
    dictionary_row("pregnant", "ae", "yesno", branching_logic="[sex] = '1'"),
    dictionary_row("since", "ae", branching_logic="[baseline_arm_1][sex] = '1' and [screening_arm_1][age] > 17"),
]


def test_forms_of_a_dictionary_refer_to_each_other_where_the_draft_asks_them(world: World):
    made = create(super_token(world))
    for _ in range(2):  # and once more, where both are there already
        reply = made.send("metadata", data=json.dumps(DICTIONARY), format="json")
        assert (reply.status_code, reply.text) == (200, "6"), reply.text
        kept = {row["field_name"]: row for row in made.json("metadata")}
        assert kept["age"]["form_name"] == "prescreen"
        assert kept["twice_age"]["select_choices_or_calculations"] == "round([baseline_arm_1][age_y]*2, 1)"
        assert kept["pregnant"]["branching_logic"] == "[baseline_arm_1][sex] = '1'"
        assert kept["since"]["branching_logic"] == "[baseline_arm_1][sex] = '1' and [screening_arm_1][age] > 17"
    assert [row["unique_event_name"] for row in made.json("event")] == ["screening_arm_1", "baseline_arm_1"]
    # What was exported comes back, with the pre-screen in it, and one question more in that.
    rows = made.json("metadata")
    rows.append({**dict.fromkeys(rows[0], ""), **dictionary_row("height", "prescreen", **INTEGER)})
    assert made.send("metadata", data=json.dumps(rows), format="json").text == str(len(rows))
    assert {row["field_name"] for row in made.json("metadata")} == {row["field_name"] for row in rows}


def test_a_field_may_be_called_what_the_pre_screen_calls_one_of_its_own(world: World):
    builder = super_token(world)
    made = create(builder)
    rows = [{name: text.replace("age_y", "age") for name, text in row.items()} for row in DICTIONARY[:-1]]
    for _ in range(2):
        reply = made.send("metadata", data=json.dumps(rows), format="json")
        assert (reply.status_code, reply.text) == (200, "5"), reply.text
        kept = {row["field_name"]: row for row in made.json("metadata")}
        assert (kept["age"]["form_name"], kept["prescreen_age"]["form_name"]) == ("base", "prescreen")
        assert kept["twice_age"]["select_choices_or_calculations"] == "round([baseline_arm_1][age]*2, 1)"
    with world.database.reading() as session:
        newest = drafts_of(session, world.study, by=builder.actor)[0]
        found = draft_of(session, world.study, newest.number, by=builder.actor)
    assert found.errors == 0
    assert "rule: '[prescreen_age] >= 18'" in found.texts["study.yaml"]


def test_what_of_a_dictionary_was_not_taken_over_stands_beside_the_draft(world: World):
    builder = super_token(world)
    made = create(builder)
    rows = [*DICTIONARY, dictionary_row("lost", "ae", branching_logic="[nowhere] = '1'")]
    assert made.send("metadata", data=json.dumps(rows), format="json").text == "7"
    with world.database.reading() as session:
        newest = drafts_of(session, world.study, by=builder.actor)[0]
        report = draft_of(session, world.study, newest.number, by=builder.actor).texts["README-dictionary.md"]
    assert "nowhere" in report
    assert "To be decided" not in report


def test_project_xml_of_our_own_comes_back_with_its_one_pre_screen(world: World):
    builder = super_token(world)
    made = create(builder, odm=world["both"].send("project_xml", returnMetadataOnly="true").text)
    for _ in range(2):
        events = made.json("event")
        assert [row["unique_event_name"] for row in events] == [
            row["unique_event_name"] for row in world["both"].json("event")
        ]
        at = {row["form"] for row in made.json("formEventMapping") if row["unique_event_name"] == "screening_arm_1"}
        assert at == {"prescreen"}
        assert {row["instrument_name"] for row in made.json("instrument")} == {
            row["instrument_name"] for row in world["both"].json("instrument")
        }
        fields = [row["field_name"] for row in made.json("metadata") if row["form_name"] == "prescreen"]
        # The criteria are in no XML: one question stands in for them, once.
        assert fields.count("meets_all_criteria") == 1
        made = create(builder, "Again", odm=made.send("project_xml", returnMetadataOnly="true").text)


def test_project_xml_of_a_draft_holds_no_data_whatever_is_asked_for(world: World):
    made = create(super_token(world))
    whole = made.send("project_xml")
    assert whole.status_code == 200, whole.text
    assert "ClinicalData" not in whole.text
    assert "<ItemDef" in whole.text
    assert made.send("project_xml", returnMetadataOnly="false", exportFiles="true").status_code == 200
    assert made.send("pdf", allRecords="1").content.startswith(b"%PDF")


def test_the_one_arm_of_a_draft_is_not_said_to_be_loaded(world: World):
    made = create(super_token(world))
    other = '[{"arm_num":2,"name":"Second"}]'
    for form in ({"action": "import", "data": other}, {"action": "delete", "arms": "1"}):
        words = made.refused("arm", format="json", **form)
        assert words.startswith("There is one arm here"), form
        assert "loaded" not in words, form


def test_a_definition_that_was_exported_becomes_a_draft_of_another_name(world: World):
    """Not project XML alone: what Equipoise exports as ODM comes back whole."""
    xml = written(definition(), Standard.ODM_DEFINITION).decode()
    new = create(super_token(world), title="The same once more", odm=xml)
    assert new.json("project")["project_title"] == "The same once more"
    there = {row["field_name"]: row for row in world["both"].json("metadata", forms="pain,disability")}
    here = {row["field_name"]: row for row in new.json("metadata", forms="pain,disability")}
    assert here == there
    assert [row["event_name"] for row in new.json("event")] == ["Screening", "Baseline", "Session 1", "Week 18"]


# The headings of the file that people download from the page, as they stand above the columns of the API.
HEADINGS = (
    *("Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label"),
    *("Choices, Calculations, OR Slider Labels", "Field Note", "Text Validation Type OR Show Slider Number"),
    *("Text Validation Min", "Text Validation Max", "Identifier?", "Branching Logic (Show field only if...)"),
    *("Required Field?", "Custom Alignment", "Question Number (surveys only)", "Matrix Group Name"),
    *("Matrix Ranking?", "Field Annotation"),
)


def test_a_dictionary_comes_in_under_the_headings_of_the_downloaded_file(world: World):
    made, loaded = create(super_token(world)), world["both"]
    columns = list(made.json("metadata")[0])
    assert len(HEADINGS) == len(columns)
    weight = {"field_name": "kg", "form_name": "demo", "field_type": "text", "field_label": "Weight"}
    own = {"field_name": "record_id", "form_name": "demo", "field_type": "text", "field_label": "Record ID"}
    for shape in ("csv", "json"):
        lines = [dict(zip(HEADINGS, (row.get(name, "") for name in columns), strict=True)) for row in (own, weight)]
        lines[1]["Field Label"] += f" in {shape}"
        text = io.StringIO()
        writer = csv.DictWriter(text, HEADINGS)
        writer.writeheader()
        writer.writerows(lines)
        data = text.getvalue() if shape == "csv" else json.dumps(lines)
        assert made.send("metadata", format=shape, data=data).text == "2"
        labels = {row["field_name"]: row["field_label"] for row in made.json("metadata")}
        assert labels["kg"] == f"Weight in {shape}"
    before = made.csv("metadata")
    for wrong in ("a,b\n1,2\n", "field_name,field_type\nx,text\n", "form_name,field_name\ndemo,\n"):
        assert "every field has a name and a form" in made.refused("metadata", format="csv", data=wrong), wrong
    assert made.csv("metadata") == before
    # Of a study that is loaded, what is there is counted under either.
    there = loaded.csv("metadata").partition("\n")[2]
    header = ",".join(f'"{each}"' for each in HEADINGS)
    reply = loaded.send("metadata", format="csv", data=f"{header}\n{there}")
    assert reply.text == str(len(loaded.json("metadata")))


def test_a_project_is_designed_in_the_order_in_which_clients_do_it(world: World):
    """Dictionary, arms and events in the place of others, then the mapping: until it comes forms are asked nowhere."""
    made = create(super_token(world))

    def imports(content: str, rows: Any, **form: Any) -> str:
        return str(made.send(content, action="import", format="json", data=json.dumps(rows), **form).text)

    fields = [("record_id", "demo", "Record ID"), ("kg", "demo", "Weight"), ("cm", "height", "Height")]
    names = ("field_name", "form_name", "field_label", "field_type")
    assert imports("metadata", [dict(zip(names, (*each, "text"), strict=True)) for each in fields]) == "3"
    there = made.json("metadata")
    assert imports("arm", made.json("arm"), override=1) == "1"
    events = [{"event_name": name, "arm_num": 1} for name in ("Enrollment", "Visit 1")]
    assert imports("event", events, override=1) == "2"
    assert [row["instrument_name"] for row in made.json("instrument")] == ["prescreen", "demo", "height"]
    assert made.json("metadata") == there
    assert made.send("project_xml").status_code == made.send("pdf").status_code == 200
    mapping = [("enrollment_arm_1", "demo"), ("visit_1_arm_1", "height"), ("visit_1_arm_1", "demo")]
    rows = [{"arm_num": 1, "unique_event_name": event, "form": form} for event, form in mapping]
    # What no client knows of is not sent, and stays; sent at another place it is refused.
    assert imports("formEventMapping", rows) == "3"
    asked = {(row["unique_event_name"], row["form"]) for row in made.json("formEventMapping")}
    assert asked == {("screening_arm_1", "prescreen"), *mapping}
    wrong = [*rows, {"arm_num": 1, "unique_event_name": "screening_arm_1", "form": "demo"}]
    assert "Leave it as it is" in imports("formEventMapping", wrong)
    # A form that is taken out everywhere can be asked again.
    for some, count in ((rows[:1], "1"), (rows, "3")):
        assert imports("formEventMapping", some) == count
        assert made.json("metadata") == there
    assert {(row["unique_event_name"], row["form"]) for row in made.json("formEventMapping")} == asked
