"""Files: what they are is told by their content, and their names are only kept to be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.participants.rules.files import LONGEST_FILE_NAME, file_name, kind_of, why_not_kept
from app.studies.definition import FileKind

K = FileKind


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (b"%PDF-1.7", "x.exe", K.PDF),
        (b"\x89PNG\r\n\x1a\n", "", K.PNG),
        (b"\xff\xd8\xff\xe0", "", K.JPEG),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "", K.WEBP),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "a.webp", None),
        (b"II*\x00\x08\x00", "", K.TIFF),
        (b"MM\x00*\x00\x08", "", K.TIFF),
        (b"\x00" * 128 + b"DICM", "", K.DICOM),
        (b"\x00" * 127 + b"DICM", "a.dcm", None),
        ("Ä, 1\r\n".encode(), "a.txt", K.TEXT),
        (b"\xef\xbb\xbfa,b", "a.CSV", K.CSV),
        (b"a,b", "a.csv.exe", K.TEXT),
        (b"a\x00b", "a.txt", None),
        (b"a\x1bb", "a.txt", None),
        (b"\xff\xfea\x00", "a.txt", None),
        (b"MZ\x90\x00", "a.pdf", None),
        (b"GIF89a\x01", "a.gif", None),
        (b"%PD", "a.pdf", K.TEXT),
        (b"", "a.pdf", None),
    ],
)
@pytest.mark.requirement("SEC-23", "SEC-48")
def test_a_file_is_what_its_content_says(data, name, kind):
    assert kind_of(data, name) is kind


@pytest.mark.parametrize(
    ("data", "kinds", "said"),
    [
        (b"", [K.PDF], "empty"),
        (b"%PDF-" + bytes(1_000_000), [K.PDF], "larger than 1 MB"),
        (b"%PDF-", [K.PNG, K.JPEG], "no PNG or JPEG"),
        (b"words", [K.PDF], "no PDF"),
        (b"words", [K.TEXT], None),
        (b"%PDF-" + bytes(999_995), [K.PDF], None),
    ],
)
def test_what_is_not_asked_for_is_refused(data, kinds, said):
    reason = why_not_kept(data, "a.csv" if data == b"words" else "a", kinds, 1)
    assert reason is None if said is None else said in str(reason)


@pytest.mark.requirement("SEC-48")
@given(st.text(max_size=400))
def test_a_name_can_always_be_kept_and_has_no_folder(name):
    kept = file_name(name)
    assert 0 < len(kept) <= LONGEST_FILE_NAME
    assert kept.isprintable()
    assert not set(kept) & {"/", "\\"}


def test_a_long_name_keeps_its_ending():
    assert file_name("C:\\scans\\" + "a" * 300 + ".pdf") == "a" * (LONGEST_FILE_NAME - 4) + ".pdf"
