"""Which files does the study share? Folders and files of the study itself, as `app.repository` keeps and shows them."""

from collections.abc import Mapping

from fastapi.responses import Response

from app.api.redcap.answers import Cell, Listing, as_json, download, plain
from app.api.redcap.asked import Asked
from app.api.redcap.errors import Wrong, not_valid, shown
from app.api.redcap.users import unique_name
from app.foundation.errors import NotFound
from app.people.access import require
from app.people.permissions import Permission, Role
from app.repository import actions, reads

COLUMNS = ("folder_id", "doc_id", "name", "role", "dag")


def folders(asked: Asked) -> Response:
    """What stands in a folder, or at the top: folders first, then files. Only what this person sees."""
    here = asked.here
    within = _folder(asked)
    found, files = reads.inside(here.session, here.the_study, within, by=here.actor)
    rows: list[dict[str, Cell]] = []
    for each in found:
        row: dict[str, Cell] = {"folder_id": each.id, "name": each.name}
        if each.role is not None:
            row["role"] = unique_name(Role(each.role))
        if each.site_id is not None:
            row["dag"] = asked.group_of_site[each.site_id].name
        rows.append(row)
    rows += [{"doc_id": each.id, "name": each.name} for each in files]
    return _listed(asked, COLUMNS, rows)


def make_folder(asked: Asked) -> Response:
    """A new folder; its number."""
    here, call = asked.here, asked.call
    number = actions.make_folder(
        here.session,
        here.the_study,
        name=call.text("name"),
        inside=_folder(asked, making="folder.make"),
        site_id=_site(asked),
        role=_role(asked),
        by=here.actor,
        now=here.now,
    )
    return _listed(asked, ("folder_id",), [{"folder_id": number}])


def keep(asked: Asked) -> Response:
    """Keep a file in a folder, or at the top."""
    here, sent = asked.here, asked.call.files.get("file")
    within = _folder(asked, making="document.keep")
    if sent is None:
        raise Wrong('No file was sent. Send it in the part "file" of a multipart form.')
    actions.keep_file(
        here.session, here.the_study, folder=within, data=sent.content, name=sent.name, by=here.actor, now=here.now
    )
    return plain("")


def export(asked: Asked) -> Response:
    """One file; that it was shown is in the log."""
    here = asked.here
    try:
        found, data = actions.show_file(here.session, here.the_study, _number(asked), by=here.actor, now=here.now)
    except NotFound:
        raise _no_document(asked) from None
    return download(data, found.media_type, found.name)


def remove(asked: Asked) -> Response:
    """Take one file out: it stays sealed, and nobody is shown it."""
    here = asked.here
    try:
        actions.remove_file(here.session, here.the_study, _number(asked), by=here.actor, now=here.now)
    except NotFound:
        raise _no_document(asked) from None
    return asked.done()


def _listed(asked: Asked, columns: tuple[str, ...], rows: list[dict[str, Cell]]) -> Response:
    """In JSON without what does not apply; else every column."""
    if asked.shape == "json":
        return as_json(rows)
    return asked.answer(Listing(columns, [tuple(row.get(name, "") for name in columns) for row in rows], "folder"))


def _number(asked: Asked) -> int:
    said = asked.call.text("doc_id")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0


def _no_document(asked: Asked) -> Wrong:
    return Wrong(f"The file doc_id={shown(asked.call.text('doc_id'))} does not exist in the File Repository.")


def _folder(asked: Asked, *, making: str = "") -> int | None:
    """The folder that was named, None for the top; the one sentence for what is not there and what is not theirs."""
    here, said = asked.here, asked.call.text("folder_id")
    number = int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0
    if making:
        require(here.actor, Permission.DOCUMENT_KEEP, action=making, subject="/redcap")
    try:
        found = reads.folder(here.session, here.the_study, number if said else None, by=here.actor)
    except NotFound:
        raise Wrong(
            f"The File Repository folder folder_id={shown(said)} does not exist or else you do not have permission to "
            "that folder because it is DAG-restricted or Role-restricted."
        ) from None
    return found.id if found is not None else None


def _site(asked: Asked) -> int | None:
    said = asked.call.text("dag_id")
    found = next((each.id for each in asked.groups if said in (str(each.id), each.name)), None)
    if said and found is None:
        raise not_valid("dag_id")
    return found


def _role(asked: Asked) -> Role | None:
    """By its unique name, or its number in the order of userRole."""
    said = asked.call.text("role_id")
    known: Mapping[str, Role] = {
        **{str(number): role for number, role in enumerate(Role, start=1)},
        **{unique_name(role): role for role in Role},
    }
    if said and said not in known:
        raise not_valid("role_id")
    return known.get(said)
