"""MachineContract: what every MachineSupplier must do.

Each test is one rule of the contract; its docstring says what goes wrong in the world when a supplier breaks it.
"""

from __future__ import annotations

from .machine_creation import MachineCreation
from .machine_deletion import MachineDeletion
from .machine_faults import MachineFaults
from .machine_observation import MachineObservation


class MachineContract(MachineCreation, MachineObservation, MachineDeletion, MachineFaults):
    """Subclass it, name it Test..., write `supply`."""
