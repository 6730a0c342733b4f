"""What is sealed opens by the secrets that are known, for its own purpose, and as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.sealing import Sealer, Unsealable

OLD, NEW = b"o" * 32, b"n" * 32
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(TEXTS)
def test_what_was_sealed_comes_back(text: str) -> None:
    assert Sealer([NEW], "mail").open(Sealer([NEW], "mail").seal(text)) == text


def test_the_same_text_is_never_sealed_alike_nor_seen() -> None:
    sealer = Sealer([NEW], "mail")
    first, second = sealer.seal("a token"), sealer.seal("a token")
    assert first != second
    assert "token" not in first


def test_a_rotation_opens_what_waited_and_seals_by_the_new_secret() -> None:
    waiting = Sealer([OLD], "mail").seal("a letter")
    assert Sealer([NEW, OLD], "mail").open(waiting) == "a letter"
    assert Sealer([NEW], "mail").open(Sealer([NEW, OLD], "mail").seal("later")) == "later"


def test_nothing_else_opens() -> None:
    sealed = Sealer([NEW], "mail").seal("a letter")
    changed = ("B" if sealed[-8] == "A" else "A").join((sealed[:-8], sealed[-7:]))
    for sealer, given_ in (
        (Sealer([OLD], "mail"), sealed),
        (Sealer([NEW], "another purpose"), sealed),
        (Sealer([NEW], "mail"), changed),
        (Sealer([NEW], "mail"), sealed[:12]),
        (Sealer([NEW], "mail"), "AAAA"),
        (Sealer([NEW], "mail"), ""),
        (Sealer([NEW], "mail"), "no base64url!"),
    ):
        with pytest.raises(ValueError, match=r"sealed|base64url|Nonce"):
            sealer.open(given_)


@pytest.mark.parametrize("place", ["there", "", "here "])
def test_moved_to_another_place_it_does_not_open(place: str) -> None:
    sealer = Sealer([NEW], "totp")
    sealed = sealer.seal("a secret", "here")
    assert sealer.open(sealed, "here") == "a secret"
    with pytest.raises(Unsealable):
        sealer.open(sealed, place)


def test_what_another_secret_sealed_is_told_by_its_beginning() -> None:
    rotated = Sealer([NEW, OLD], "totp")
    assert rotated.seal("a secret").startswith(rotated.prefix)
    assert not Sealer([OLD], "totp").seal("a secret").startswith(rotated.prefix)


@pytest.mark.parametrize("damage", ["", ".", "x.y", "{}.", "{}.AAAA", "{}.é", "{}.{}"])
def test_what_is_damaged_is_only_unsealable(damage: str) -> None:
    sealer = Sealer([NEW], "totp")
    with pytest.raises(Unsealable):
        sealer.open(damage.format(sealer.prefix.rstrip("."), "A" * 40))
