"""What can a whole study be written as? One file per standard; each gives the same bytes every time.

Where a format of tables (`Format`) writes one table, these write all that the study is, from one snapshot. A new one is
a member of `Standard`, an entry in `STANDARDS`, and a file beside this one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import GetJsonSchemaHandler

from app.exports.formats import bundle, dataset_json, fhir, odm
from app.exports.whole import Whole


class Standard(StrEnum):
    """What a whole study can be written as."""

    ODM = "odm"
    ODM_2 = "odm2"
    ODM_DEFINITION = "odm_definition"
    ODM_2_DEFINITION = "odm2_definition"
    DATASET_JSON = "dataset_json"
    DATASET_NDJSON = "dataset_ndjson"
    FHIR = "fhir"

    @property
    def extension(self) -> str:
        return self.value

    @property
    def ending(self) -> str:
        """How the name of such a file ends."""
        return STANDARDS[self].ending

    @property
    def media_type(self) -> str:
        return STANDARDS[self].media_type

    @property
    def is_definition(self) -> bool:
        """Whether it says what the version in use asks for, and nothing of anybody."""
        return self in (Standard.ODM_DEFINITION, Standard.ODM_2_DEFINITION)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """As every enumeration, with an example."""
        schema: dict[str, Any] = handler(core)
        handler.resolve_ref_schema(schema)["examples"] = [Standard.ODM.value]
        return schema


@dataclass(frozen=True)
class Known:
    """How a standard is written, and what its files are called."""

    ending: str
    media_type: str
    write: Callable[[Whole], Iterator[bytes]]


XML = "application/xml"
STANDARDS: dict[Standard, Known] = {
    Standard.ODM: Known("odm-1.3.2.xml", XML, lambda whole: odm.written(whole, second=False)),
    Standard.ODM_2: Known("odm-2.0.xml", XML, lambda whole: odm.written(whole, second=True)),
    Standard.ODM_DEFINITION: Known(
        "definition.odm-1.3.2.xml", XML, lambda whole: odm.written(whole, second=False, definition=True)
    ),
    Standard.ODM_2_DEFINITION: Known(
        "definition.odm-2.0.xml", XML, lambda whole: odm.written(whole, second=True, definition=True)
    ),
    Standard.DATASET_JSON: Known(
        "dataset-json.zip", bundle.MEDIA_TYPE, lambda whole: dataset_json.written(whole, lines=False)
    ),
    Standard.DATASET_NDJSON: Known(
        "dataset-ndjson.zip", bundle.MEDIA_TYPE, lambda whole: dataset_json.written(whole, lines=True)
    ),
    Standard.FHIR: Known("fhir.json", "application/fhir+json", fhir.written),
}


def whole_file(whole: Whole, standard: Standard) -> Iterator[bytes]:
    """The file of a whole study, in pieces."""
    return STANDARDS[standard].write(whole)
