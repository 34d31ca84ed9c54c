"""Which files are there? Those of a record, in fields of type file, and why the study keeps no folders."""

from fastapi.responses import Response

from app.api.redcap.answers import Listing, listing
from app.api.redcap.asked import Asked
from app.api.redcap.errors import Wrong, no_record, shown
from app.api.redcap.records import is_there
from app.people.permissions import Permission

REPOSITORY = ("folder_id", "doc_id", "name", "role", "dag")
NO_REPOSITORY = (
    "Equipoise keeps no folders of documents: documents of a trial belong into its trial master file. Files of a "
    "participant are kept in fields of type file (content=file)."
)


def export(asked: Asked) -> Response:
    """The file of a field."""
    _ = asked.exporting
    raise _no_file(asked)


def change(asked: Asked) -> Response:
    """Keep or take out the file of a field."""
    asked.require_import(Permission.ENTRY_SAVE)
    raise _no_file(asked)


def _no_file(asked: Asked) -> Wrong:
    """What is wrong with where it is to be."""
    name = asked.call.text("field")
    if not is_there(asked.here, asked.record):
        return no_record(asked.call.text("record"))
    return Wrong(f"The field '{shown(name)}' does not exist or is not a 'file' field")


def folders(asked: Asked) -> Response:
    """Nothing, at the top; below there is no folder."""
    asked.require_study()
    _refuse_folder(asked)
    return listing(Listing(REPOSITORY, []), asked.shape)


def _refuse_folder(asked: Asked) -> None:
    if asked.call.text("folder_id"):
        raise Wrong(
            f"The File Repository folder folder_id={shown(asked.call.text('folder_id'))} does not exist or else you do "
            "not have permission to that folder because it is DAG-restricted or Role-restricted."
        )


def no_document(asked: Asked) -> Response:
    """There is none."""
    asked.require_study()
    raise Wrong(f"The file doc_id={shown(asked.call.text('doc_id'))} does not exist in the File Repository.")


def keep(asked: Asked) -> Response:
    """Never."""
    _refuse_folder(asked)
    raise asked.refused(NO_REPOSITORY, "file.keep")
