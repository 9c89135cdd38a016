"""Checked compilation: original and compiled run on the same objects at every call, and a mismatch is traced to its op.

Switched on by ``FLAMBEAU_CHECK=1`` for every compiled function, or by ``options={"check": True}`` for one.
"""
from flambeau.frontend.checking.calls import CheckWarning, checked
from flambeau.frontend.checking.report import CheckError, Report
from flambeau.frontend.checking.repro import load_inputs, random_inputs, replay
from flambeau.frontend.checking.saving import load_calls

__all__ = ["CheckError", "CheckWarning", "Report", "checked", "load_calls", "load_inputs", "random_inputs", "replay"]
