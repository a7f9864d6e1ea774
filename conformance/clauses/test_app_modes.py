"""APP: modes that a module has for itself alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.clauses._applied import assert_drops_or_refuses
from conformance.models import applying, blocks, modes
from conformance.spec import clause
from conformance.workbench import applied_copy, pair

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("APP-25")
def test_training_mode_of_the_module_alone_after_apply_is_refused_or_honoured(
    impl: Adapter, cache: PackageCache
) -> None:
    module = blocks.seeded(modes.Thinning)
    applied = pair(impl, cache, module, applying.kinds_call()).applied
    applied(*applying.kinds_call().args)

    applied.training = True  # its children stay in eval mode

    assert_drops_or_refuses(lambda: applied)


@clause("APP-25")
def test_training_mode_of_the_module_alone_at_apply_is_refused_or_honoured(
    impl: Adapter, cache: PackageCache
) -> None:
    module = blocks.seeded(modes.Thinning)
    compiled = cache.compiled(module, applying.kinds_call())

    module.training = True

    assert_drops_or_refuses(lambda: applied_copy(impl, compiled, module))
