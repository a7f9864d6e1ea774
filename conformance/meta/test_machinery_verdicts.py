"""The verdicts of layers that claim some things and not others."""

from __future__ import annotations

import pytest

from conformance import spec
from conformance.adapter import CAPABILITIES
from conformance.verdicts import verdicts


def test_a_clause_of_two_needs_counts_where_both_are_claimed() -> None:
    profiles = {"REG-16": ("regional", "dynamic"), "DYN-01": ("dynamic",)}
    outcomes = {"REG-16": ["unsupported"], "DYN-01": ["pass"]}

    found = verdicts(profiles, outcomes, {"dynamic"})

    assert str(found["dynamic"]) == "conformant"
    assert str(found["all"]) == "not conformant (1 unsupported)"


@pytest.mark.parametrize("claimed", CAPABILITIES)
def test_a_layer_that_claims_one_thing_can_be_conformant_to_it(claimed: str) -> None:
    known = spec.catalogue().values()
    profiles = {entry.id: entry.profile for entry in known}
    outcomes = {
        entry.id: ["unsupported" if {*entry.needs} - {claimed} else "pass"]
        for entry in known
    }

    found = verdicts(profiles, outcomes, {claimed})

    assert str(found.get(claimed, "conformant")) == "conformant"
    assert str(found["core"]) == "conformant"
