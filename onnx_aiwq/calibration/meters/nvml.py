"""NVML: energy of one NVIDIA GPU board, by its energy counter, else by integrating power samples.

The counter (Volta and newer) holds millijoules since the driver was loaded and is updated every 20 to 100 ms; the power
reading is an average of up to one second on many boards, so its integral needs a longer window. Either covers the
board alone: no host, no power supply. Work must have ended before `stop`: onnxruntime's `run` returns then.
"""

from __future__ import annotations

import importlib
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

from onnx_aiwq.calibration.meters.polling import Poller
from onnx_aiwq.calibration.meters.protocol import (
    MeterUnavailableError,
    Reading,
    counted_reading,
    no_window,
    open_window,
)
from onnx_aiwq.errors import MeterError
from onnx_aiwq.hardware_profile import Source

COUNTER_UPDATE_S = 0.1
"""The slower end of the 20 to 100 ms between two updates of the energy counter (PETSc's documentation of its use)."""
POWER_AVERAGE_S = 1.0
"""nvmlDeviceGetPowerUsage is a one-second average from Ampere on, except GA100 (NVIDIA's NVML reference)."""
SAMPLE_EVERY_S = 0.05
LONGEST_GAP_S = 1.0
_COUNTER_WINDOW_S = 5.0
_POWER_WINDOW_S = 10.0
_INSTALL = "install the reader with `pip install nvidia-ml-py` (the extra `gpu`)"
_DRIVER = "install NVIDIA's driver (`nvidia-smi` shows whether it works); a container needs `--gpus all` as well"


class NvmlMeter:
    """Energy of one GPU board; measured.

    Args:
        device: NVML index or UUID; without it the first of CUDA_VISIBLE_DEVICES, else index 0.
        nvml: the module of nvidia-ml-py; for tests.
        clock: seconds of a monotonic clock.

    Raises:
        MeterUnavailableError: without the package, the driver, the device, or a reading of it.
    """

    name = "nvml"
    label: Source = "measured"

    def __init__(
        self,
        device: int | str | None = None,
        *,
        nvml: Any = None,
        clock: Callable[[], float] = time.monotonic,
        sample_every_s: float = SAMPLE_EVERY_S,
    ) -> None:
        self._nvml = nvml if nvml is not None else _import_nvml()
        self._clock = clock
        self._sampler = Poller("aiwq-nvml", self._sample, sample_every_s)
        self._closed = False
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise MeterUnavailableError(f"nvml: the driver does not answer: {error}", _DRIVER) from None
        try:
            self._open(device)
        except MeterError:
            self.close()
            raise

    def _open(self, device: int | str | None) -> None:
        self._handle, chosen = self._find(device)
        self.board = _text(self._nvml.nvmlDeviceGetName(self._handle))
        self._counts_energy = self._has_counter()
        self.scope = f"GPU board ({self.board})"
        self.minimum_window_s = _COUNTER_WINDOW_S if self._counts_energy else _POWER_WINDOW_S
        notes = [f"nvml: {chosen}"] if chosen else []
        if not self._counts_energy:
            self._power_w()
            notes.append("nvml: this board has no energy counter; power samples are integrated")
        if self._is_split():
            notes.append("nvml: MIG is on, and the reading covers the whole board, other instances included")
        self.notes: tuple[str, ...] = tuple(notes)
        self._started_s: float | None = None
        self._started_j = 0.0
        self._samples: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin a window; see `Meter.start`."""
        if self._started_s is not None:
            raise open_window(self.name)
        self._samples = []
        if self._counts_energy:
            self._started_j = self._counter_j()
        else:
            self._sample()
            self._sampler.begin()
        self._started_s = self._clock()

    def stop(self) -> Reading:
        """End the window; see `Meter.stop`."""
        if self._started_s is None:
            raise no_window(self.name)
        started_s, self._started_s = self._started_s, None
        notes: tuple[str, ...] = ()
        if self._counts_energy:
            joules = self._counted()
            seconds = self._clock() - started_s
            update_s = COUNTER_UPDATE_S
        else:
            joules, seconds, notes = self._integrated()
            update_s = POWER_AVERAGE_S
        if joules == 0 and seconds >= self.minimum_window_s:
            raise MeterError(
                f"nvml: the energy of {self.scope} did not move in {seconds:.3g} s; the reading is dead: update the "
                "driver, or use another meter"
            )
        return counted_reading(self, {"gpu": joules}, seconds, update_s, notes)

    def close(self) -> None:
        """End the sampling thread and the library's session."""
        if self._closed:
            return
        self._closed = True
        self._sampler.close()
        self._nvml.nvmlShutdown()

    def _find(self, device: int | str | None) -> tuple[Any, str]:
        """The device's handle, and how it was chosen where the caller did not choose."""
        nvml = self._nvml
        chosen = ""
        try:
            if device is None:
                device, chosen = _first_visible(int(nvml.nvmlDeviceGetCount()))
            if isinstance(device, int):
                return nvml.nvmlDeviceGetHandleByIndex(device), chosen
            return nvml.nvmlDeviceGetHandleByUUID(device), chosen
        except nvml.NVMLError as error:
            raise MeterUnavailableError(
                f"nvml: there is no device {device!r}: {error}", "`nvidia-smi -L` lists the devices"
            ) from None

    def _has_counter(self) -> bool:
        try:
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._nvml.NVMLError:
            return False  # boards before Volta; power is tried next
        return True

    def _is_split(self) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(self._handle)[0])
        except (self._nvml.NVMLError, AttributeError):
            return False  # a board or library without MIG

    def _counter_j(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError as error:
            raise MeterError(f"nvml: the energy counter cannot be read any more: {error}; measure again") from None

    def _counted(self) -> float:
        ended_j = self._counter_j()
        if ended_j < self._started_j:
            raise MeterError(
                f"nvml: the energy counter went backwards from {self._started_j:g} to {ended_j:g} J; the driver was "
                "reloaded: measure again"
            )
        return ended_j - self._started_j

    def _power_w(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1e3
        except self._nvml.NVMLError as error:
            raise MeterUnavailableError(
                f"nvml: the board gives neither energy nor power: {error}", "give --watts"
            ) from None

    def _sample(self) -> None:
        self._samples.append((self._clock(), self._power_w()))

    def _integrated(self) -> tuple[float, float, tuple[str, ...]]:
        """Joules by the trapezoidal rule over the samples, the seconds between the first and the last, and notes."""
        self._sampler.end()
        self._sample()
        joules, longest_s = 0.0, 0.0
        for (before_s, before_w), (after_s, after_w) in itertools.pairwise(self._samples):
            joules += (after_s - before_s) * (before_w + after_w) / 2
            longest_s = max(longest_s, after_s - before_s)
        gap = f"nvml: {longest_s:.2g} s passed between two power samples; what happened in between was not seen"
        seconds = self._samples[-1][0] - self._samples[0][0]
        return joules, seconds, (gap,) if longest_s > LONGEST_GAP_S else ()


def board_name(nvml: Any = None) -> str | None:
    """The name of the board that is read where none is chosen; None where NVML does not tell."""
    try:
        meter = NvmlMeter(nvml=nvml)
    except MeterError:
        return None
    meter.close()
    return meter.board


def _import_nvml() -> Any:
    try:
        # Part of the extra `gpu`, so that a plain installation goes without.
        return importlib.import_module("pynvml")
    except ImportError:
        raise MeterUnavailableError("nvml: the package nvidia-ml-py is not installed", _INSTALL) from None


def _first_visible(count: int) -> tuple[int | str, str]:
    """The device that CUDA calls 0, as far as the environment tells, and a note where that is uncertain."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith("GPU-"):
        return first, f"device {first}, the first of CUDA_VISIBLE_DEVICES"
    if first.startswith("MIG-"):
        first = ""
    index = int(first) if first.isdecimal() else 0
    if count > 1:
        return index, (
            f"device {index} of {count} is read; CUDA may number them otherwise (set CUDA_DEVICE_ORDER=PCI_BUS_ID)"
        )
    return index, ""


def _text(name: Any) -> str:
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name)
