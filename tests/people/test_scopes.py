"""Scopes in words: every permission is said once, in every language, and presets choose no more than is held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.foundation.languages import in_language
from app.people.permissions import Permission
from app.people.rules import NOT_FOR_TOKENS
from app.people.scopes import CALLED, GROUPS, PRESETS, SAID, grouped, named

HELD = st.sets(st.sampled_from(sorted(set(Permission) - NOT_FOR_TOKENS)))


def test_every_permission_has_words_of_its_own_and_stands_in_one_group():
    members = [each for _, group in GROUPS for each in group]
    assert sorted(members) == sorted(Permission)
    assert sorted(SAID) == sorted(Permission)
    assert len(set(SAID.values())) == len(SAID)


@pytest.mark.parametrize("language", ["de", "es"])
def test_the_words_are_translated(language: str):
    said = [*SAID.values(), *CALLED.values(), *(label for label, _ in GROUPS)]
    same = [each for each in said if in_language(each, language) == each]
    assert same in ([], ["Export"]), "Export is the same in German"


@given(HELD)
def test_scopes_by_group_are_the_scopes(held: set[str]):
    assert sorted(code for _, group in grouped(held) for code, _ in group) == sorted(held)
    assert all(group for _, group in grouped(held))


@given(HELD)
def test_a_preset_chooses_of_what_is_held_alone(held: set[str]):
    chosen = {each.code: each.chosen(sorted(held)) for each in PRESETS}
    assert all(set(each) <= held for each in chosen.values())
    assert set(chosen["all"]) == held
    assert not set(chosen["read"]) & {Permission.IDENTITY_READ, Permission.ARM_READ}
    assert all(each.endswith(".read") for each in chosen["read"])
    assert bool(chosen["export"]) == (Permission.EXPORT_RUN in held)
    assert bool(chosen["import"]) == (Permission.DATA_IMPORT in held)


@pytest.mark.parametrize(
    ("scopes", "called"),
    [
        ({"export.run", "study.read"}, "Export"),
        ({"export.run", "study.read", "audit.read"}, "Everything I may"),
        ({"export.run"}, ""),
        ({"study.read", "audit.read"}, "Read only"),
        (set(), ""),
    ],
)
def test_what_a_preset_chooses_is_called_by_its_name(scopes: set[str], called: str):
    assert named(scopes, ["export.run", "study.read", "audit.read"]) == called


def test_a_scope_that_is_not_known_any_more_stands_for_itself():
    assert grouped(["study.read", "moon.land"])[-1][1] == [
        ("study.read", "Read what the study says"),
        ("moon.land", "moon.land"),
    ]
