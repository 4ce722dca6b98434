"""Leave the second device to versions of torch that can have one."""

from __future__ import annotations

from torch.utils import backend_registration

collect_ignore = [] if hasattr(backend_registration, "_DummyBackendModule") else ["second_device.py"]
