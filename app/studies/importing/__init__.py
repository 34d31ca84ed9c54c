"""How does a study from elsewhere become a study folder? REDCap dictionaries and projects, ODM and USDM, XLSForms.

One file per format reads it into a `Draft`, nothing is opened or fetched; `building` makes a folder of the draft that
`equipoise study check` accepts, and `report` says of everything that was not taken over where it stands and what to do.
What a study needs and the source lacks is written as a marked default (`placeholders:`), never made up.
"""

from app.studies.importing.building import Converted
from app.studies.importing.folder import folder_zip, write_folder
from app.studies.importing.report import Failed, Kind, Note
from app.studies.importing.source import LARGEST_SOURCE, convert

__all__ = ["LARGEST_SOURCE", "Converted", "Failed", "Kind", "Note", "convert", "folder_zip", "write_folder"]
