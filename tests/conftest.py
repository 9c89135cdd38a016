"""What every test shares: a cache of its own, and no peer tests where there is no peer."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

# Set before anything imports flambeau. The cache is keyed by content, so keeping it between runs is safe, and it
# never mixes with the user's; `make clean` removes it.
os.environ.setdefault("FLAMBEAU_CACHE_DIR", str(ROOT / "build" / "test-cache"))
# Tests count captures, which an earlier run's entries would spare; those of the warm start switch it on for their processes.
os.environ.setdefault("FLAMBEAU_WARM", "0")

collect_ignore = [] if importlib.util.find_spec("torch") else ["peer"]

#: Folders whose tests run under the compiler when FLAMBEAU_TEST_COMPILED is set: to "1", or to the name of a backend.
COMPILED_FOLDERS = ("data", "distributions", "eager", "nn", "ops", "optim", "safety", "transforms")

#: Tests about what compiling changes by design, and what that is.
NOT_COMPILED = {
    # An op whose result nobody reads is run only where it may refuse data, not for its layout or a number out of range.
    "test_errors.py::test_refused": "dead ops raise nothing",
    "test_fast.py::test_numbers_out_of_range_behave_as_before": "dead ops raise nothing",
    "test_distributions.py::test_what_is_drawn_is_checked": "errors of ops that draw come when the graph runs",
    # Steps of the tape are those of the graph.
    "test_amp.py::test_regions_nest_and_end": "asks which handler of ops is in force, which is the compiler's own business",
    "test_amp.py::test_a_parameter_is_cast_once_unless_it_changes": "asks which node of the tape it is",
    "test_autograd.py::test_function_is_recorded_and_differentiable_again": "asks for the name of a node of the tape",
    "test_autograd.py::test_backward_accumulates_into_leaves_only": "asks for the name of a node of the tape",
    "test_control_flow.py::test_scan_is_a_loop": "differentiates two results of one graph in turn: they are one step of the tape",
    "test_layouts.py::test_gradients_that_come_and_go": "differentiates two results of one graph in turn, one step of the tape",
    "test_fused.py::test_values_and_gradients": "counts the eager forms that ran",
    "test_watching.py::test_checkpoints_free_activations": "the partitioner decides what is kept",
    "test_pickling.py::test_public_functions_are_found_again": "looks into the namespaces of modules",
    # A graph knows values, not memory: what a derivative needs is kept though the program writes over it.
    "test_autograd.py::test_an_output_that_the_derivative_reads_may_not": "its gradient is right where eager mode refuses",
    # A frame that goes on behind a break holds its values until it ends.
    "test_autograd.py::test_the_tape_is_freed_without_the_collector": "asks when a tensor is freed",
    "test_autograd.py::test_function_may_save_its_output_without_a_cycle": "asks when a tensor is freed",
    "test_tape.py::test_the_tape_is_freed_with_its_tensors": "asks when a tensor is freed",
    "test_sharing.py::test_a_tensor_with_views_is_not_left_in_two_places": "asks when a tensor is freed",
    # A compiled function in a compiled one is part of it: its own backend has no say.
    "test_indices.py::test_no_check_where_bounds_prove_the_index": "looks at the kernel of the function that it compiles",
    "test_layouts.py::test_more_than_two_to_the_31_elements": "op by op, its arrays take 16 GB",
    "test_processes.py::test_a_backend_that_raises": "about the backend of the function that it compiles",
}


def pytest_pyfunc_call(pyfuncitem: Any) -> None:
    """Each test's function becomes a compiled one: its body is captured, with a break wherever it asks for data."""
    wanted = os.environ.get("FLAMBEAU_TEST_COMPILED", "0")
    folder = Path(pyfuncitem.fspath).relative_to(ROOT / "tests").parts[0]
    if wanted in ("", "0") or folder not in COMPILED_FOLDERS or pyfuncitem.get_closest_marker("not_compiled") or any(
            name in pyfuncitem.nodeid for name in NOT_COMPILED):
        return
    import flambeau  # noqa: PLC0415 - only after the environment is set
    from flambeau.frontend.points import FallbackWarning  # noqa: PLC0415
    backend = "aot_eager" if wanted == "1" else wanted
    warnings.filterwarnings("error", category=FallbackWarning, message=".*runs eagerly: (?!generators)")
    pyfuncitem.obj = flambeau.compile(pyfuncitem.obj, backend=backend)
