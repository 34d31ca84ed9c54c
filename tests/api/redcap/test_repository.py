"""Files that a study shares: folders for sites and roles, kept sealed, shown to who may see them, never lost."""

import io
from typing import Any

import pytest
from lxml import etree
from sqlalchemy import select

from app.audit.actions import ENTRY as AUDIT
from app.repository.reads import FILE, FOLDER
from app.repository.sealing import STEPS, open_file
from tests.api.redcap.world import Caller, World

NO_FOLDER = (
    "The File Repository folder folder_id={} does not exist or else you do not have permission to that folder because "
    "it is DAG-restricted or Role-restricted."
)


def sent(name: str = "note.txt", data: bytes = b"Room 3 is closed.\n") -> dict[str, Any]:
    return {"file": (name, io.BytesIO(data), "application/x-msdownload")}


def keep(caller: Caller, name: str = "note.txt", data: bytes = b"Room 3 is closed.\n", **form: Any) -> int:
    """Keep a file; its number."""
    reply = caller.send("fileRepository", action="import", files=sent(name, data), **form)
    assert (reply.status_code, reply.content) == (200, b""), reply.text
    return int(listed(caller, **form)[-1]["doc_id"])


def make(caller: Caller, name: str, **form: Any) -> int:
    (row,) = caller.json("fileRepository", action="createFolder", name=name, **form)
    assert list(row) == ["folder_id"]
    return int(row["folder_id"])


def listed(caller: Caller, **form: Any) -> list[dict[str, Any]]:
    return list(caller.json("fileRepository", action="list", **form))


@pytest.mark.requirement("P11-e1", "SEC-19")
def test_folders_and_files_are_made_listed_shown_and_removed(world: World):
    both = world["both"]
    assert both.csv("fileRepository", action="list") == "folder_id,doc_id,name,role,dag\n"
    outer = make(both, "Manuals")
    inner = make(both, "Devices, new", folder_id=outer)
    first = keep(both, "Läufe.csv", "a,ü\n1,2\n".encode(), folder_id=inner)
    second = keep(both)
    assert listed(both) == [{"folder_id": outer, "name": "Manuals"}, {"doc_id": second, "name": "note.txt"}]
    assert listed(both, folder_id=outer) == [{"folder_id": inner, "name": "Devices, new"}]
    assert listed(both, folder_id=inner) == [{"doc_id": first, "name": "Läufe.csv"}]
    assert both.csv("fileRepository", action="list", folder_id=outer) == (
        f'folder_id,doc_id,name,role,dag\n{inner},,"Devices, new",,\n'
    )
    root = etree.fromstring(both.send("fileRepository", action="list").content)
    assert (root.tag, [each.tag for each in root]) == ("folders", ["folder", "folder"])
    reply = both.send("fileRepository", action="export", doc_id=first)
    assert (reply.status_code, reply.content.decode()) == (200, "a,ü\n1,2\n")
    assert reply.headers["content-type"] == 'text/csv; name="L_ufe.csv";charset=UTF-8'
    assert both.send("fileRepository", action="delete", doc_id=first).content == b""
    assert listed(both, folder_id=inner) == []
    for action in ("export", "delete"):
        message = both.refused("fileRepository", action=action, doc_id=first)
        assert message == f"The file doc_id={first} does not exist in the File Repository."
    with world.database.reading() as session:
        lines = session.execute(
            select(AUDIT.c.action, AUDIT.c.subject).order_by(AUDIT.c.position.desc()).limit(8)
        ).all()
        kept = session.execute(select(FILE).where(FILE.c.study_id == world.study.id).order_by(FILE.c.id)).all()
        assert open_file(session, world.study.id, first, kept[0].sealed) == "a,ü\n1,2\n".encode()
        names = session.execute(select(FOLDER.c.sealed_name)).scalars().all()
    told = [f"{line.action} {line.subject}" for line in lines if line.action.startswith(("document", "folder"))]
    assert told == [
        f"document.removed document/{first}",
        f"document.shown document/{first}",
        f"document.kept document/{second}",
        f"document.kept document/{first}",
        f"folder.made folder/{inner}",
        f"folder.made folder/{outer}",
    ]
    # Removed is a mark; at rest nothing can be read, and hardly how long it is.
    assert [(row.removed_by, len(row.sealed) // STEPS) for row in kept] == [("both", 1), (None, 1)]
    assert not any(b"Manuals" in bytes(name) for name in names)
    assert len({len(name) for name in names}) == 1


@pytest.mark.requirement("SEC-19")
def test_a_folder_is_for_a_site_or_a_role(world: World):
    both = world["both"]
    groups = {row["unique_group_name"]: row["data_access_group_id"] for row in both.json("dag")}
    roles = {row["role_label"]: row["unique_role_name"] for row in both.json("userRole")}
    south = make(both, "South", dag_id=groups["south_clinic"])
    inside = make(both, "Inside", folder_id=south)
    watching = make(both, "For monitors", role_id=roles["Monitor"])
    assert make(both, "By number", role_id="6") == watching + 1
    file = keep(both, folder_id=inside)
    assert listed(both)[0] == {"folder_id": south, "name": "South", "dag": "south_clinic"}
    seen = {name: [row["name"] for row in listed(caller)] for name, caller in world.callers.items() if name in KEEPING}
    assert seen == {
        "both": ["South"],
        "coordinator": [],
        "southern": ["South"],
        "investigator": [],
        "manager": ["South"],
        "monitor": ["South", "For monitors", "By number"],
    }
    assert listed(world["monitor"])[1]["role"] == roles["Monitor"]
    north = world["coordinator"]
    for form in ({"action": "list"}, {"action": "createFolder", "name": "x"}, {"action": "import", "files": sent()}):
        for number in (south, inside, watching, 99, "x"):
            assert north.refused("fileRepository", folder_id=number, **form) == NO_FOLDER.format(number)
    assert f"doc_id={file} does not exist" in north.refused("fileRepository", action="export", doc_id=file)
    assert world["southern"].send("fileRepository", action="export", doc_id=file).content == b"Room 3 is closed.\n"


KEEPING = ("both", "coordinator", "southern", "investigator", "manager", "monitor")


@pytest.mark.requirement("E6-6", "CONC-4")
def test_what_somebody_shares_who_may_know_an_arm_is_shown_to_no_blinded_person(world: World):
    statistician, clinician, manager = world["statistician"], world["clinician"], world["manager"]
    folder = make(statistician, "Given Zephyrine training")
    first = keep(statistician, "arms.csv", b"M-001,Zephyrine training\n", folder_id=folder)
    shared = make(manager, "Shared")
    kept = [first, keep(clinician, "who got what.txt"), keep(clinician, "mine.txt", folder_id=shared)]
    for name in ("both", "coordinator", "investigator", "manager", "monitor"):
        assert [row["name"] for row in listed(world[name])] == ["Shared"], name
        assert listed(world[name], folder_id=shared) == []
        for number in kept:
            assert "does not exist" in world[name].refused("fileRepository", action="export", doc_id=number)
    assert [row["name"] for row in listed(clinician)] == ["Given Zephyrine training", "Shared", "who got what.txt"]
    assert clinician.send("fileRepository", action="export", doc_id=first).content == b"M-001,Zephyrine training\n"
    # Nor does the log name it, which blinded people read.
    log = str(manager.json("log"))
    assert "Zephyrine" not in log
    assert "who got what" not in log
    # A blinded person cannot know an arm, but may guess one.
    label = world.study.definition.arms[0].label
    for form in (
        {"action": "createFolder", "name": f"For {label}"},
        {"action": "import", "files": sent(f"{label}.txt")},
    ):
        assert "may tell an arm" in manager.refused("fileRepository", **form)


@pytest.mark.requirement("SEC-6")
@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"action": "createFolder"}, "Give it a name"),
        ({"action": "createFolder", "name": "n" * 151}, "at most 150 characters"),
        ({"action": "createFolder", "name": "N", "dag_id": "99"}, 'The value of the parameter "dag_id" is not valid'),
        ({"action": "createFolder", "name": "N", "role_id": "9"}, 'The value of the parameter "role_id" is not valid'),
        ({"action": "import"}, "No file was sent"),
        ({"action": "import", "files": sent("x.exe", b"MZ\x00\x01")}, "By its content this file is no PDF"),
        ({"action": "export", "doc_id": "0x1"}, "The file doc_id=0x1 does not exist"),
        ({"action": "delete"}, "does not exist in the File Repository"),
    ],
    ids=["no name", "long name", "no site", "no role", "no file", "a program", "no number", "no such file"],
)
def test_what_cannot_be_shared_says_why(world: World, form: dict[str, Any], words: str):
    assert words in world["both"].refused("fileRepository", **form)


def test_who_only_reads_keeps_nothing(world: World):
    keep(world["both"])
    for name, caller in world.callers.items():
        may_read, may_keep = name != "administrator", name not in ("administrator", "assessor", "monitor")
        assert (caller.send("fileRepository", action="list").status_code == 200) is may_read, name
        reply = caller.send("fileRepository", action="createFolder", name="N", format="json")
        assert (reply.status_code == 200) is may_keep, name
    for form in ({"action": "import", "files": sent()}, {"action": "delete", "doc_id": "1"}):
        assert "This needs the role" in world["monitor"].refused("fileRepository", 403, **form)


def test_a_file_may_have_nothing_in_it(world: World):
    """PyCap's own tests begin one so, and look whether it is there."""
    both = world["both"]
    number = keep(both, "new_upload.txt", b"")
    assert listed(both) == [{"doc_id": number, "name": "new_upload.txt"}]
    reply = both.send("fileRepository", action="export", doc_id=number)
    assert (reply.content, reply.headers["content-type"]) == (b"", 'text/plain; name="new_upload.txt";charset=UTF-8')
    assert both.send("fileRepository", action="delete", doc_id=number, format="json").json() == []


def test_a_file_may_be_larger_than_data(world: World):
    both, large = world["both"], b"a" * 3_000_000
    number = keep(both, "large.txt", large)
    assert both.send("fileRepository", action="export", doc_id=number).content == large
    # Text that is sent with files is no larger than without; nor is a file larger than one may be.
    reply = both.send("record", format="json", data="[" + "1," * 1_100_000 + "1]", files=sent())
    assert (reply.status_code, "error" in reply.json()) == (400, True)
    reply = both.send("fileRepository", action="import", files=sent("x.txt", b"a" * 26_100_000))
    assert reply.status_code == 413
