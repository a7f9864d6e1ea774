"""Ahead-of-time compilation of PyTorch modules: a small reference.

    with aoti_ref.capture(pipe.transformer) as call:
        pipe("a prompt")
    program = aoti_ref.export(pipe.transformer, call)
    compiled = aoti_ref.compile(program)
    aoti_ref.apply(compiled, pipe.transformer)

After that a call of the module equals eager, or is refused with an error.
"""

from aoti_ref._apply import AppliedModel as AppliedModel
from aoti_ref._apply import apply as apply
from aoti_ref._apply import restore as restore
from aoti_ref._attention import UnusableAttention as UnusableAttention
from aoti_ref._call import Call as Call
from aoti_ref._capture import capture as capture
from aoti_ref._capture import capture_calls as capture_calls
from aoti_ref._compile import CompiledModel as CompiledModel
from aoti_ref._compile import compile as compile
from aoti_ref._errors import AotiError as AotiError
from aoti_ref._errors import AutocastActive as AutocastActive
from aoti_ref._errors import BadCall as BadCall
from aoti_ref._errors import BadResult as BadResult
from aoti_ref._errors import BrokenPackage as BrokenPackage
from aoti_ref._errors import Fault as Fault
from aoti_ref._errors import HookedModule as HookedModule
from aoti_ref._errors import NeverCalled as NeverCalled
from aoti_ref._errors import NotApplied as NotApplied
from aoti_ref._errors import TrainingMode as TrainingMode
from aoti_ref._errors import UnusableFolder as UnusableFolder
from aoti_ref._errors import WeightMismatch as WeightMismatch
from aoti_ref._export import export as export
from aoti_ref._folder import load as load
from aoti_ref._folder import save_folder as save_folder
from aoti_ref._hub import load_from_hub as load_from_hub
from aoti_ref._hub import push_to_hub as push_to_hub
from aoti_ref._hub_errors import GatedRepository as GatedRepository
from aoti_ref._hub_errors import NoSuchRepository as NoSuchRepository
from aoti_ref._hub_errors import NoSuchRevision as NoSuchRevision
from aoti_ref._hub_errors import NoSuchVariant as NoSuchVariant
from aoti_ref._hub_errors import NotCached as NotCached
from aoti_ref._hub_errors import TransferFailed as TransferFailed
from aoti_ref._hub_errors import UnpinnedRevision as UnpinnedRevision
from aoti_ref._hub_errors import Untrusted as Untrusted
from aoti_ref._hub_errors import UnusableCache as UnusableCache
from aoti_ref._interchange import adopt as adopt
from aoti_ref._interchange import save_blocks as save_blocks
from aoti_ref._kernel_errors import MissingOperators as MissingOperators
from aoti_ref._kernel_errors import OtherKernel as OtherKernel
from aoti_ref._kernel_errors import UntrustedKernel as UntrustedKernel
from aoti_ref._kernel_errors import UnusableKernel as UnusableKernel
from aoti_ref._kernels import Kernel as Kernel
from aoti_ref._kernels import kernel_revision as kernel_revision
from aoti_ref._kernels import use_kernel as use_kernel
from aoti_ref._making_errors import BadRange as BadRange
from aoti_ref._making_errors import ConflictingOption as ConflictingOption
from aoti_ref._making_errors import FailedBlocks as FailedBlocks
from aoti_ref._making_errors import NarrowedRange as NarrowedRange
from aoti_ref._making_errors import NoBlocks as NoBlocks
from aoti_ref._making_errors import NotCompilable as NotCompilable
from aoti_ref._making_errors import NotExportable as NotExportable
from aoti_ref._making_errors import UnknownArgument as UnknownArgument
from aoti_ref._making_errors import UnknownOption as UnknownOption
from aoti_ref._package import read_manifest as read_manifest
from aoti_ref._package_errors import NotInterchangeable as NotInterchangeable
from aoti_ref._package_errors import WrongHost as WrongHost
from aoti_ref._peak import Peak as Peak
from aoti_ref._quantize import NotQuantizable as NotQuantizable
from aoti_ref._quantize import Quantized as Quantized
from aoti_ref._quantize import quantize as quantize
from aoti_ref._recording import RegionCalls as RegionCalls
from aoti_ref._recording import capture_regions as capture_regions
from aoti_ref._regional import compile_regions as compile_regions
from aoti_ref._regions import CompiledRegions as CompiledRegions
from aoti_ref._source import Source as Source
from aoti_ref._task_errors import ChildTraceback as ChildTraceback
from aoti_ref._task_errors import CudaInParent as CudaInParent
from aoti_ref._task_errors import NotSendable as NotSendable
from aoti_ref._task_errors import TaskFailed as TaskFailed
from aoti_ref._task_errors import WorkerDied as WorkerDied
from aoti_ref._task_errors import WorkerTimedOut as WorkerTimedOut
from aoti_ref._variant_errors import DeadVariant as DeadVariant
from aoti_ref._variant_errors import FailedVariants as FailedVariants
from aoti_ref._variant_errors import NoVariant as NoVariant
from aoti_ref._variants import CompiledVariants as CompiledVariants
from aoti_ref._variants import compile_variants as compile_variants
from aoti_ref._worker import gpu_task as gpu_task
