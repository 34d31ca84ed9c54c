"""Where is a converted study written? Into a new folder, or a ZIP with the folder in it."""

import io
import zipfile
from pathlib import Path

from app.studies.importing.building import Converted
from app.studies.importing.report import Failed

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same study gives the same bytes


def write_folder(converted: Converted, path: Path) -> None:
    """Write the files into a folder that is empty or not there yet; nothing is ever written over."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Failed(f"{path} is there already and not empty. Name a new folder.")
    for name, data in converted.files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def folder_zip(converted: Converted) -> bytes:
    """The folder as a ZIP, in a folder of the study's code."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in converted.files.items():
            info = zipfile.ZipInfo(f"{converted.study.code}/{name}", _LONG_AGO)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return stream.getvalue()
