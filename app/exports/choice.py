"""What is asked for? The tables, of which instruments, visits and sites, as which file, in which shape. Pure."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.exports.formats import Format
from app.exports.formats.standards import Standard

Code = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
Codes = Annotated[tuple[Code, ...], Field(max_length=500)]


class Choice(BaseModel):
    """One export as it is asked for. Empty lists leave nothing out; the same choice of the same data is one file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"tables": ["entries_by_visit"], "format": "parquet", "visits": ["week18"]}},
    )

    tables: Codes = Field(default=(), description="Which tables; none: all of them, as one ZIP.")
    format: Format | Standard = Field(
        default=Format.CSV, description="A format of tables, or a standard that holds the whole study."
    )
    instruments: Codes = Field(default=(), description="Only these instruments; none: all.")
    visits: Codes = Field(default=(), description="Only these visits; none: all.")
    sites: Codes = Field(default=(), description="Only these sites; none: all where you may export.")
    values: Literal["codes", "labels"] = Field(default="codes", description="Codes as stored, or their labels.")
    dates: Literal["kept", "shifted"] = Field(default="kept", description="Shifted: by as many days per participant.")
    ids: Literal["kept", "mapped"] = Field(default="kept", description="Mapped: another code for each participant.")
    arms: Literal["none", "dummy"] = Field(default="none", description="Dummy: drawn by chance, to write programmes.")
    bom: bool = Field(default=False, description="Only CSV: a byte order mark first.")

    @property
    def dummy(self) -> bool:
        return self.arms == "dummy"

    @property
    def narrows(self) -> bool:
        """Whether it leaves instruments, visits or sites out."""
        return bool(self.instruments or self.visits or self.sites)

    @property
    def is_bundle(self) -> bool:
        """Whether its file is a ZIP of tables."""
        return not self.is_whole and len(self.tables) != 1

    @property
    def is_whole(self) -> bool:
        """Whether its file is the whole study in a standard format."""
        return isinstance(self.format, Standard)

    @property
    def called(self) -> str:
        """What its file is called, after the study."""
        name = "all" if not self.tables else self.tables[0] if len(self.tables) == 1 else "tables"
        endings = {
            "_with_dummy_arms": self.dummy,
            "_chosen": self.narrows,
            "_labels": self.values == "labels",
            "_shifted": self.dates == "shifted",
            "_mapped": self.ids == "mapped",
        }
        return name + "".join(ending for ending, holds in endings.items() if holds)

    def said(self) -> dict[str, object]:
        """What differs from a plain export of everything, for the log and for a manifest."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def leaves_out(self, kind: Literal["instruments", "visits", "sites"], code: str | None) -> bool:
        """Whether a row with this instrument, visit or site is not wanted."""
        wanted: tuple[str | None, ...] = getattr(self, kind)
        return bool(wanted) and code not in wanted


EVERYTHING = Choice()
