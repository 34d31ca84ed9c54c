"""Does PyCap work unchanged? Every public method, over HTTP against a server that is a process of its own."""

import inspect
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from redcap.project import Project
from redcap.request import RedcapError

from app.foundation.database import Database
from tests.api.redcap.test_files import WEEK, build_with_files
from tests.api.redcap.test_importing import SCREENING
from tests.api.redcap.test_projects import super_token
from tests.api.redcap.test_records import EVENT, FORM, NUMBER
from tests.durability.serving import Server
from tests.durability.world import write_key

CALLED: set[str] = set()


@pytest.fixture(params=["sqlite"])
def project(database: Database, tmp_path: Path) -> Iterator[Any]:
    """PyCap on a served study; which methods were called is kept."""
    world = build_with_files(database, repeats=True)
    write_key(tmp_path)
    server = Server(database.url, tmp_path)
    server.start()

    class Watched(Project):
        builder = ""  # a super token

        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                CALLED.add(name)
            return super().__getattribute__(name)

    Watched.builder = super_token(world).token
    yield Watched(f"http://127.0.0.1:{server.port}/api/", world["both"].token)
    server.stop()


def refused(method: Any, *positional: Any, **named: Any) -> str:
    with pytest.raises(RedcapError) as raised:
        method(*positional, **named)
    return str(raised.value)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_every_method_of_pycap(project: Any, tmp_path: Path):
    _reads(project)
    _writes(project)
    _keeps_files(project, tmp_path)
    _is_refused(project, tmp_path)
    _designs_a_draft(project)
    public = {
        name
        for name, value in inspect.getmembers(Project)
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }
    assert public - CALLED - {"url", "token"} == set()


def _reads(project: Any) -> None:
    assert project.export_version().major == project.redcap_version.major == 16
    assert (project.def_field, project.is_longitudinal) == ("participant_id", True)
    assert set(project.forms) == {"prescreen", "pain", "disability", "diary", "falls", "scan"}
    assert project.field_names[:3] == ["participant_id", "age", "pain_screen"]
    assert project.metadata[0]["field_name"] == "participant_id"
    assert project.export_metadata(fields=["age"])[0]["field_type"] == "text"
    assert project.export_metadata(format_type="csv").startswith("field_name,form_name,")
    names = project.export_field_names()
    assert {
        "original_field_name": "pain_where",
        "choice_value": "leg",
        "export_field_name": "pain_where___leg",
    } in names
    assert project.export_field_names(field="age")[0]["export_field_name"] == "age"
    assert project.export_instruments()[0] == {"instrument_name": "prescreen", "instrument_label": "Pre-screen"}
    assert project.export_arms() == [{"arm_num": 1, "name": "Arm 1"}]
    assert [event["unique_event_name"] for event in project.export_events()][1] == "baseline_arm_1"
    assert project.export_instrument_event_mappings(arms=["1"])[0]["form"] == "prescreen"
    assert project.export_repeating_instruments_events()[0]["form_name"] == "falls"
    assert [group["unique_group_name"] for group in project.export_dags()] == ["north_clinic", "south_clinic"]
    assert len(project.export_user_dag_assignment()) == 9
    assert project.export_users()[0]["username"] == "assessor"
    assert project.export_users(format_type="csv").startswith("username,email,")
    assert project.export_user_roles()[0]["role_label"] == "Coordinator"
    assert project.export_user_role_assignment()[0]["username"] == "assessor"
    assert project.export_project_info()["is_longitudinal"] == 1
    rows = project.export_records()
    assert len(rows) == 8
    assert (rows[0]["participant_id"], rows[3][NUMBER], rows[0][NUMBER]) == ("M-001", 1, "")
    assert "Baseline" in project.export_records(format_type="csv", raw_or_label="label", raw_or_label_headers="label")
    assert "<records>" in project.export_records(format_type="xml")
    assert len(project.export_records(records=["M-003"], fields=["pain_nrs"], events=["baseline_arm_1"])) == 1
    eav = project.export_records(record_type="eav", records=["M-003"], forms=["pain"])
    assert ("pain_nrs", "9") in [(row["field_name"], row["value"]) for row in eav]
    filtered = project.export_records(
        filter_logic="[pain_nrs] = 9",
        export_survey_fields=True,
        export_data_access_groups=True,
        export_checkbox_labels=True,
        raw_or_label="label",
        date_begin=datetime(2020, 1, 1, tzinfo=UTC),
        date_end=datetime(2999, 1, 1, tzinfo=UTC),
        decimal_character=",",
        export_blank_for_gray_form_status=True,
    )
    assert filtered == []  # rows that were put there by hand were never changed
    assert len(project.export_report(report_id="1")) == 8
    assert project.export_logging(log_type="export")[0]["action"] == "Data Export (API) "
    assert project.export_pdf()[0].startswith(b"%PDF")
    assert project.export_pdf(record="M-001", instrument="pain")[0].startswith(b"%PDF")
    link = project.export_survey_link(instrument="diary", record="M-001", event=WEEK)
    assert "/surveys/?s=" in link
    assert len(project.export_survey_participant_list(instrument="diary", event=WEEK)) == 3
    assert project.export_file_repository() == []


def _writes(project: Any) -> None:
    row = {
        "participant_id": "M-002",
        EVENT: "baseline_arm_1",
        "pain_nrs": "4",
        "pain_days": "2",
        "pain_where___leg": "1",
    }
    assert project.import_records([row]) == {"count": 1}
    assert project.import_records([row], return_content="ids", overwrite="overwrite") == ["M-002"]
    text = project.export_records(format_type="csv", records=["M-002"])
    assert project.import_records(text, import_format="csv", return_format_type="csv") == "1"
    name = project.generate_next_record_name()
    assert name == "M-004"
    new = {"participant_id": name, "redcap_data_access_group": "north_clinic", **SCREENING}
    assert project.import_records([new]) == {"count": 1}
    auto = [{**new, "participant_id": "1"}]
    assert project.import_records(auto, force_auto_number=True, return_content="auto_ids") == ["M-005,1"]
    fall = {"participant_id": "M-001", EVENT: WEEK, FORM: "falls", NUMBER: 3, "fall_where": "Stairs"}
    assert project.import_records([fall]) == {"count": 1}
    assert project.delete_records(["M-001"], instrument="falls", event=WEEK, repeat_instance=3) == 1
    with pytest.raises(RedcapError, match="not found in the project as real data fields: non_existent"):
        project.import_records([{"participant_id": "M-001", "non_existent": "1"}])
    # What is there is counted, and nothing else is taken.
    assert project.import_arms(project.export_arms(), override=0) == 1
    assert project.import_events(project.export_events(), override=0) == 4
    assert project.import_instrument_event_mappings(project.export_instrument_event_mappings()) == 7
    assert project.import_repeating_instruments_events(project.export_repeating_instruments_events()) == 1
    assert project.import_dags(project.export_dags()) == 2
    assert project.import_user_dag_assignment(project.export_user_dag_assignment()) == 9
    assert project.import_users(project.export_users()) == 9
    assert project.import_user_roles(project.export_user_roles()) == 8
    assert project.import_user_role_assignment(project.export_user_role_assignment()) == 9


def _keeps_files(project: Any, tmp_path: Path) -> None:
    note = tmp_path / "test_upload.txt"
    note.write_text("a note")
    with note.open() as opened:
        project.import_file("M-002", "scan_file", "test_upload.txt", opened, event=WEEK)
    content, about = project.export_file("M-002", "scan_file", event=WEEK)
    assert (content, about) == (b"a note", {"name": "test_upload.txt", "charset": "UTF-8"})
    project.delete_file("M-002", "scan_file", event=WEEK)
    assert "There is no file" in refused(project.export_file, "M-002", "scan_file", event=WEEK)
    (folder,) = project.create_folder_in_repository("New Folder")
    with note.open() as opened:
        project.import_file_into_repository("test_upload.txt", opened, folder_id=folder["folder_id"])
    assert project.export_file_repository() == [{"folder_id": folder["folder_id"], "name": "New Folder"}]
    (file,) = project.export_file_repository(folder_id=folder["folder_id"])
    assert project.export_file_from_repository(file["doc_id"]) == (
        b"a note",
        {"name": "test_upload.txt", "charset": "UTF-8"},
    )
    project.delete_file_from_repository(file["doc_id"])
    assert project.export_file_repository(folder_id=folder["folder_id"]) == []


def _designs_a_draft(project: Any) -> None:
    """As the suite of PyCap begins: a project of XML, by a super token, whose token is the last 32 characters."""
    xml = requests.post(project.url, {"token": project.token, "content": "project_xml", "returnMetadataOnly": "true"})
    data = json.dumps([{"project_title": "By PyCap", "purpose": 0, "purpose_other": "", "is_longitudinal": 1}])
    form = {"token": project.builder, "content": "project", "format": "json", "data": data, "odm": xml.text}
    made = Project(project.url, requests.post(project.url, form).text[-32:])
    assert made.export_project_info()["project_title"] == "By PyCap"
    assert made.is_longitudinal
    metadata = made.export_metadata()
    assert made.import_metadata(metadata) == len(metadata)
    shorter = [row for row in metadata if row["field_name"] != "pain_note"]
    assert made.import_metadata(shorter, import_format="json") == len(shorter)
    assert made.export_field_names(field="pain_days")[0]["export_field_name"] == "pain_days"
    assert "pain_note" in refused(made.export_field_names, field="pain_note")
    assert made.import_events([{"event_name": "Week 52", "arm_num": 1}], override=0) == 1
    mapping = [*made.export_instrument_event_mappings(), {"arm_num": 1, "unique_event_name": "week_52_arm_1"}]
    mapping[-1]["form"] = "pain"
    assert made.import_instrument_event_mappings(mapping) == len(mapping)
    assert made.delete_events(["week_52_arm_1"]) == 1
    assert made.import_repeating_instruments_events(made.export_repeating_instruments_events()) == 1
    assert "a draft still" in refused(made.export_records)


def _is_refused(project: Any, tmp_path: Path) -> None:
    assert "never changed" in refused(project.import_metadata, [{"field_name": "x", "form_name": "y"}])
    assert "Delete Record privileges" in refused(project.delete_records, ["M-001"])
    assert "do not exist: 99" in refused(project.delete_records, ["99"])
    assert "There is one arm" in refused(project.delete_arms, ["1"])
    assert "never changed" in refused(project.delete_events, ["baseline_arm_1"])
    assert "Sites" in refused(project.delete_dags, ["north_clinic"])
    assert "keeps its sites" in refused(project.switch_dag, "north_clinic")
    assert "no token" in refused(project.delete_users, ["monitor"])
    assert "no token" in refused(project.delete_user_roles, ["U-1"])
    assert "access codes" in refused(project.export_survey_access_code, "M-001", "diary", event=WEEK)
    assert "return codes" in refused(project.export_survey_return_code, "M-001", "diary", event=WEEK)
    assert "Equipoise gives no" in refused(project.export_survey_queue_link, "M-001")
    assert "not a survey" in refused(project.export_survey_link, "M-001", "pain", event=WEEK)
    assert "Give it a name" in refused(project.create_folder_in_repository, "")
    assert "doc_id=5" in str(project.export_file_from_repository(5)[0])
    with pytest.raises(ValueError, match="not a 'file' field"):
        project.export_file("M-001", "age")
    with pytest.raises(ValueError, match="not a 'file' field"):
        project.delete_file("M-001", "age")
    note = tmp_path / "note.txt"
    note.write_text("a note")
    with note.open() as opened, pytest.raises(ValueError, match="not a 'file' field"):
        project.import_file("M-001", "age", "note.txt", opened)
    project.delete_file_from_repository(5)  # PyCap does not look at what it is answered
    with pytest.raises(RedcapError, match="You do not have permissions to use the API"):
        Project(project.url, "0" * 32).export_arms()
