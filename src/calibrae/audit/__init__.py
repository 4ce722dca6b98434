"""Black-box audit of a VAE loss, by its values and gradients."""

from .._types import Finding as Finding
from ._adapters import module_loss as module_loss
from ._audit import audit_loss as audit_loss
from ._probe import ProbeError as ProbeError
from ._record import AuditRecord as AuditRecord
