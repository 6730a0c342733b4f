"""The form of API keys: random, recognisable, and checked without asking anybody."""

from hypothesis import given
from hypothesis import strategies as st

from app.security.api_keys import PREFIX, is_well_formed, new_api_key, visible_part


def test_a_key_is_recognisable_and_never_the_same() -> None:
    keys = {new_api_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert {len(key) for key in keys} == {57}
    assert all(key.startswith(PREFIX) and key[len(PREFIX) :].isalnum() for key in keys)
    assert all(is_well_formed(key) for key in keys)


def test_what_is_shown_of_a_key_leaves_more_than_200_bits() -> None:
    key = new_api_key()
    assert key.startswith(visible_part(key))
    assert len(visible_part(key)) == len(PREFIX) + 6


@given(st.integers(len(PREFIX), 56), st.characters())
def test_a_typing_error_is_noticed(place: int, letter: str) -> None:
    key = new_api_key()
    changed = key[:place] + letter + key[place + 1 :]
    assert is_well_formed(changed) is (changed == key)


@given(st.text(), st.text())
def test_no_other_text_is_a_key(before: str, after: str) -> None:
    assert not is_well_formed(before)
    assert is_well_formed(f"{before}{new_api_key()}{after}") is (before == after == "")
