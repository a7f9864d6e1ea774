"""A graph on a module, which checks calls and runs; and the choice among several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _domains, _kernels, _lent, _plan, _tree
from aoti_ref._binding import Binding, fitted
from aoti_ref._check import Checker
from aoti_ref._contract import ValueSpec
from aoti_ref._errors import AutocastActive, BadCall, BadResult, Fault
from aoti_ref._hooks import Made
from aoti_ref._locks import Lock
from aoti_ref._variant_errors import NoVariant, Refusal

if TYPE_CHECKING:
    import inspect

    from torch import nn

    from aoti_ref._package import Package

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Layout = dict[str, Made]


class Graph:
    """One compiled graph, on one module.

    Args:
        package: The graph.
        name: The module's class, for messages.
        signature: That of the method that it stands in for.
        layout: What the module's children were at `apply`.
    """

    def __init__(
        self, package: Package, name: str, signature: inspect.Signature, layout: Layout
    ) -> None:
        self._package = package
        self._layout = layout
        contract = package.contract
        self.check = Checker(contract, signature, name)
        self._result = package.result()
        self._bare = self._result.is_leaf()
        # Unflattening takes pytree microseconds, and most results are a tuple.
        self._plain_tuple = self._result.type is tuple and all(
            child.is_leaf() for child in _tree.children_of(self._result)
        )
        # A dtype for a tensor, None for a Python number.
        self._outputs = [
            out if isinstance(out, ValueSpec) else getattr(torch, out, None)
            for out in contract.outputs
        ]
        only = self._outputs[0] if self._bare else None
        self._single = only if isinstance(only, torch.dtype) else None
        self._lock = Lock()
        self._lends: bool | None = None  # whether it gives inputs back, once it ran
        self.binding: Binding | None = None

    def refuse_misfit(self, module: nn.Module, inner: str) -> None:
        """Hold a module to the package, without loading it.

        Args:
            module: What it is to run on.
            inner: The attribute that holds the method.

        Raises:
            WeightMismatch, BadCall, MissingOperators, OtherKernel: As `apply` says.
        """
        unknown = self.check.unknown_arguments()
        if unknown:
            detail = f"{inner} does not take it"
            faults = tuple(Fault("argument", name, detail) for name in unknown)
            raise BadCall(type(module).__name__, faults)
        self._provide(type(module).__name__)
        fitted(self._package, module, offloaded=inner == "_old_forward")

    def bind(self, module: nn.Module) -> Binding:
        """Bind to the tensors that hang on the module now, one thread for all."""
        with self._lock:
            if self.binding is None or not self.binding.holds(module):
                # Where this was unpickled, nobody has loaded them yet.
                self._provide(self.check.module)
                seen = self.binding.seen if self.binding else ()
                self.binding = Binding(self._package, module, self._layout, seen)
            return self.binding

    def _provide(self, name: str) -> None:
        _kernels.provide(name, self._package.ops, self._package.kernels)

    def run(
        self, module: nn.Module, inputs: list[torch.Tensor], args: Args, kwargs: Kwargs
    ) -> Any:
        """Run a call that was found good.

        Args:
            module: What the graph is on.
            inputs: What the check made of the call.
            args: The call.
            kwargs: The call.
        """
        binding = self.binding
        if binding is None or not binding.holds(module):
            binding = self.bind(module)
        if binding.index is not None:
            self._refuse_elsewhere(inputs, binding.index)
        if binding.written and (faults := binding.shared(args, kwargs)):
            raise BadCall(self.check.module, faults)
        if self._lends is False:
            return self._structured(binding.run(inputs))
        kept = [*inputs]
        outputs = binding.run(inputs)
        if self._lends is None and all(tensor.numel() for tensor in kept):
            self._lends = _lent.lends(kept, outputs)
        if self._lends is not False:
            outputs = self._given_back(outputs, kept, self.check.given(args, kwargs))
        return self._structured(outputs)

    def _given_back(
        self,
        outputs: list[torch.Tensor],
        inputs: list[torch.Tensor],
        given: list[torch.Tensor],
    ) -> list[torch.Tensor]:
        """Give the caller's memory for that of arguments that were laid out anew."""
        found = [_lent.given_back(output, inputs, given) for output in outputs]
        names = self.check.tensor_paths()
        detail = "the result is a view of it, which these strides do not have"
        lost = sorted({number for number in found if isinstance(number, int)})
        if lost:
            faults = tuple(Fault("strides", names[number], detail) for number in lost)
            raise BadCall(self.check.module, faults)
        return [output for output in found if not isinstance(output, int)]

    def _refuse_elsewhere(self, inputs: list[torch.Tensor], index: int) -> None:
        """Refuse tensors on another GPU than the weights: the graph would not look."""
        faults = tuple(
            Fault("device", path, f"wants cuda:{index}, found {tensor.device}")
            for tensor, path in zip(inputs, self.check.tensor_paths(), strict=True)
            if tensor.is_cuda and tensor.device.index != index
        )
        if faults:
            raise BadCall(self.check.module, faults)

    def _structured(self, outputs: list[torch.Tensor]) -> Any:
        """Give flat outputs eager's structure, and Python numbers back their type."""
        if self._single is not None and outputs[0].dtype is self._single:
            return outputs[0]  # a loop costs more
        leaves: list[Any] = []
        for want, found in zip(self._outputs, outputs, strict=True):
            if isinstance(want, ValueSpec):
                leaves.append(want.value)
            elif want is None:
                leaves.append(found.item())
            elif found.dtype is not want:
                name = f"output {len(leaves)}"
                detail = f"{name} should be {want}, came as {found.dtype}"
                raise BadResult(self.check.module, detail)
            else:
                leaves.append(found)
        if self._bare:
            return leaves[0]
        if self._plain_tuple:
            return tuple(leaves)
        return pytree.tree_unflatten(leaves, self._result)


class Choice:
    """Gives each call to the first of several graphs whose contract it keeps.

    A form of call that some graph took before is checked without a message for
    every graph that does not take it: a graph more costs microseconds.

    Args:
        graphs: In the order in which they are asked.
    """

    def __init__(self, graphs: list[Graph]) -> None:
        self._graphs = graphs
        self._devices = sorted({d for g in graphs for d in g.check.devices})
        # For each form, the plan of every graph: None where only the check can tell.
        self._plans: dict[tuple[int | str, ...], list[_plan.Plan | None]] = {}

    def __call__(self, args: Args, kwargs: Kwargs) -> tuple[Graph, list[torch.Tensor]]:
        """Choose the graph of a call.

        Returns:
            The graph, and its inputs.

        Raises:
            NoVariant: With every domain, and why it does not take the call.
            AutocastActive: Eager code would cast here, and compiled code cannot.
        """
        for device in self._devices:
            if torch.is_autocast_enabled(device):
                raise AutocastActive("call", device)
        form: tuple[int | str, ...] = (len(args), *kwargs)
        plans = self._plans.get(form)
        if plans is not None:
            for graph, plan in zip(self._graphs, plans, strict=True):
                inputs = (
                    graph.check.attempt(args, kwargs)[0]
                    if plan is None
                    else plan([*args, *kwargs.values()])
                )
                if inputs is not None:
                    return graph, inputs
        return self._search(args, kwargs, form)

    def _search(
        self, args: Args, kwargs: Kwargs, form: tuple[int | str, ...]
    ) -> tuple[Graph, list[torch.Tensor]]:
        """Ask every graph in the way that can say why not."""
        refusals: list[Refusal] = []
        for graph in self._graphs:
            inputs, faults = graph.check.attempt(args, kwargs)
            if inputs is not None:
                # Forms that nobody takes are without number, and are not kept.
                if form not in self._plans:
                    self._plans[form] = [
                        g.check.draw(args, kwargs) for g in self._graphs
                    ]
                return graph, inputs
            refusals.append(Refusal(_domains.spell(graph.check.contract), faults))
        raise NoVariant(self._graphs[0].check.module, tuple(refusals))
