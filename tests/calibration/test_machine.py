"""The machine's description, on recorded machines and on this one."""

from __future__ import annotations

import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from onnx_aiwq.calibration import machine as described
from onnx_aiwq.calibration.machine import ProcessorIdentity, describe_machine, read_processor
from onnx_aiwq.profiles import this_machine
from recorded_machines import machine

CPU = "sys/devices/system/cpu"


def test_the_processor(tmp_path: Path) -> None:
    root = machine(tmp_path, "AMD EPYC 7R32", vendor="AuthenticAMD", cpuid=(23, 49, 0))
    assert read_processor(root) == ProcessorIdentity("AMD EPYC 7R32", "AuthenticAMD", 23, 49, 0)


def test_an_arm_board_has_no_cpuid(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nCPU implementer\t: 0x41\nModel\t\t: Raspberry Pi 4 Model B\n"
    )
    assert read_processor(tmp_path) == ProcessorIdentity("Raspberry Pi 4 Model B")
    assert not described.is_virtual(tmp_path)


@pytest.mark.parametrize(
    ("virtual", "files", "said"),
    [
        (False, {}, "none"),
        (True, {}, "virtual machine"),
        (True, {"sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "Standard PC\n"}, "QEMU"),
        (False, {".dockerenv": ""}, "container"),
        (True, {"proc/1/cgroup": "0::/kubepods/pod1\n"}, "virtual machine, container"),
    ],
)
def test_virtualisation(tmp_path: Path, virtual: bool, files: dict[str, str], said: str) -> None:
    root = machine(tmp_path, virtual=virtual, files=files)
    assert said in described.virtualisation(root)
    assert described.is_virtual(root) == virtual


@pytest.mark.parametrize(
    ("vendor", "product", "virtual"),
    [("Amazon EC2", "c7g.large", True), ("Amazon EC2", "c7g.metal", False), ("Ampere", "Mt. Jade", False)],
)
def test_arm_servers_are_known_by_their_tables(tmp_path: Path, vendor: str, product: str, virtual: bool) -> None:
    root = machine(tmp_path, files={"sys/class/dmi/id/sys_vendor": vendor, "sys/class/dmi/id/product_name": product})
    (root / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd40\n")
    assert described.is_virtual(root) == virtual


@pytest.mark.parametrize(
    ("files", "governor", "turbo"),
    [
        ({}, "unknown", "unknown"),
        ({f"{CPU}/cpu{n}/cpufreq/scaling_governor": "performance\n" for n in (0, 1)}, "performance", "unknown"),
        (
            {
                f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
                f"{CPU}/cpu1/cpufreq/scaling_governor": "performance\n",
            },
            "performance, powersave",
            "unknown",
        ),
        ({f"{CPU}/intel_pstate/no_turbo": "0\n"}, "unknown", "on"),
        ({f"{CPU}/intel_pstate/no_turbo": "1\n"}, "unknown", "off"),
        ({f"{CPU}/cpufreq/boost": "1\n"}, "unknown", "on"),
        ({f"{CPU}/cpufreq/boost": "0\n"}, "unknown", "off"),
    ],
)
def test_frequency(tmp_path: Path, files: dict[str, str], governor: str, turbo: str) -> None:
    root = machine(tmp_path, files=files)
    assert (described.governor(root), described.turbo(root)) == (governor, turbo)


def test_caches_and_threads(tmp_path: Path) -> None:
    files = {f"{CPU}/cpu0/topology/thread_siblings_list": "0,16\n"}
    for index, (level, kind, size) in enumerate(
        [(1, "Data", "32K"), (1, "Instruction", "64K"), (2, "Unified", "1024K"), (3, "Unified", "32768K")]
    ):
        folder = f"{CPU}/cpu0/cache/index{index}"
        files |= {f"{folder}/level": f"{level}\n", f"{folder}/type": f"{kind}\n", f"{folder}/size": f"{size}\n"}
    root = machine(tmp_path, files=files)
    assert described.caches(root) == "L1d 32K, L1i 64K, L2 1024K, L3 32768K"
    assert described.threads_per_core(root) == "2"


@pytest.mark.parametrize(
    ("text", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None), ("5 0\n", None)]
)
def test_quota_of_a_container(tmp_path: Path, text: str, quota: float | None) -> None:
    assert described.cpu_quota(machine(tmp_path, files={"sys/fs/cgroup/cpu.max": text})) == quota


def test_this_machine_is_described() -> None:
    found = describe_machine()
    assert found["machine"] == this_machine()
    assert found["kernel"] == platform.release()
    assert found["logical_cpus"] == str(os.cpu_count())
    assert 1 <= int(found["usable_cpus"]) <= int(found["logical_cpus"])
    assert found["onnxruntime"].startswith("onnxruntime")
    moment = datetime.fromisoformat(found["date"])
    assert moment.utcoffset() == timezone.utc.utcoffset(None)
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 60
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        kibibytes = re.search(r"MemTotal:\s+(\d+) kB", meminfo.read_text())
        assert kibibytes is not None
        assert int(found["memory_bytes"]) == int(kibibytes.group(1)) * 1024


def test_nothing_names_the_user_or_the_host() -> None:
    text = " ".join(describe_machine().values()).casefold()
    assert all(isinstance(value, str) and value for value in describe_machine().values())
    if len(platform.node()) > 3:
        assert platform.node().casefold() not in text
    assert str(Path.home()).casefold() not in text.split()
