"""Peak memory between two points in time."""

import re
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak memory since the last :meth:`start`: of the GPU's allocator, or of the process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Forget the peak so far."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            CLEAR.write_text("5")  # resets the peak of the resident set; proc(5)
        except OSError:
            return

    def megabytes(self) -> float | None:
        """Return the peak in MB, or ``None`` if the system does not report it."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e6
        try:
            found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii", errors="replace"))
        except OSError:
            return None
        return int(found[1]) * 1024 / 1e6 if found else None
