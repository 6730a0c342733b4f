"""Sealed secrets: opened by our keys, in their place, and by nobody and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.sealed import Sealer, Unsealable

OLD, NEW = b"o" * 32, b"n" * 32


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_opens_again_and_does_not_show(secret: str) -> None:
    sealer = Sealer("test", NEW)
    sealed = sealer.seal(secret, "here")
    assert sealer.open(sealed, "here") == secret
    assert len(secret) < 8 or secret not in sealed
    assert sealer.seal(secret, "here") != sealed


@pytest.mark.parametrize(
    ("sealer", "place"),
    [
        (Sealer("test", NEW), "here"),
        (Sealer("other", OLD), "here"),
        (Sealer("test", OLD), "there"),
        (Sealer("test", OLD), ""),
    ],
)
def test_another_key_purpose_or_place_does_not_open_it(sealer: Sealer, place: str) -> None:
    sealed = Sealer("test", OLD).seal("secret", "here")
    with pytest.raises(Unsealable):
        sealer.open(sealed, place)


def test_the_previous_key_opens_and_never_seals() -> None:
    old, rotated = Sealer("test", OLD), Sealer("test", NEW, OLD)
    sealed = old.seal("secret", "here")
    assert rotated.open(sealed, "here") == "secret"
    assert not sealed.startswith(rotated.prefix)
    anew = rotated.seal("secret", "here")
    assert anew.startswith(rotated.prefix)
    with pytest.raises(Unsealable):
        old.open(anew, "here")


@pytest.mark.parametrize("damage", ["", ".", "x", "x.y", "{}.", "{}.AAAA", "{}.é", "{}.{}"])
def test_what_is_damaged_is_only_unsealable(damage: str) -> None:
    sealer = Sealer("test", NEW)
    key_id = sealer.prefix.rstrip(".")
    with pytest.raises(Unsealable):
        sealer.open(damage.format(key_id, "A" * 40), "here")


def test_every_changed_letter_is_noticed() -> None:
    sealer = Sealer("test", NEW)
    sealed = sealer.seal("JBSWY3DPEHPK3PXP", "here")
    for at in range(len(sealer.prefix), len(sealed)):
        changed = "A" if sealed[at] != "A" else "B"
        with pytest.raises(Unsealable):
            sealer.open(sealed[:at] + changed + sealed[at + 1 :], "here")
