"""Hardware profiles by name: the user's, the shipped, the datasheets', and which of them is the default.

A profile is measured (calibrated on a machine), modelled, replayed, or derived from a datasheet. The label travels with
every number. The energy model that reads it is in `onnx_aiwq.energy`; what a profile holds is in
`onnx_aiwq.hardware_profile`, the derivation from a datasheet in `onnx_aiwq.datasheets`.
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from onnx_aiwq.errors import ProfileError, suggestion
from onnx_aiwq.hardware_profile import HardwareProfile

Origin = Literal["reference", "datasheet", "shipped", "user"]
DEFAULT_ID = "amd-epyc-zen-4-vcpu-1-thread"
"""The shipped calibration that prices models where nothing was calibrated."""
REFERENCE_ID = "reference-cpu"
REFERENCE_PROCESSOR = "Intel Xeon Gold 6148"
MAX_PROFILE_BYTES = 4_000_000
_ORDER = {DEFAULT_ID: 0, REFERENCE_ID: 1}  # what the list begins with


class ProfileSummary(msgspec.Struct, frozen=True):
    """One line of the list of profiles: what it is, how its joules were obtained, and where it lies."""

    id: str
    name: str
    kind: str
    source: str
    provider: str | None
    origin: Origin


def list_profiles() -> list[ProfileSummary]:
    """Every profile that `load_profile` finds by name: the reference, the user's, the shipped, the datasheets'.

    Raises:
        ProfileError: if a calibrated profile file cannot be read or does not validate.
    """
    found: dict[str, ProfileSummary] = {}
    for origin, profile in _all_profiles():
        summary = ProfileSummary(profile.id, profile.name, profile.kind, profile.source, profile.provider, origin)
        found.setdefault(profile.id, summary)
    return sorted(found.values(), key=lambda summary: (_ORDER.get(summary.id, 2), summary.id))


def load_profile(name_or_path: str | None = None) -> HardwareProfile:
    """The profile of that id, full name or JSON file; None: this machine's calibrated one, else the default.

    Ids and names are compared without case.

    Raises:
        ProfileError: if there is no such profile, or its file does not validate.
    """
    if name_or_path is None:
        return calibrated_profile_of_this_machine() or default_profile()
    if name_or_path.casefold().endswith(".json") or "/" in name_or_path or "\\" in name_or_path:
        return read_profile(Path(name_or_path))
    from onnx_aiwq.datasheets import missing_figures

    wanted = name_or_path.strip().casefold()
    known = []
    for _, profile in _all_profiles():
        if wanted in (profile.id, profile.name.casefold()):
            return profile
        known.append(profile.id)
    gap = missing_figures(wanted)
    if gap:
        raise ProfileError(
            f"hardware {name_or_path!r} is known, but its datasheet entry lacks {gap}; choose another "
            "one (`aiwq hardware` lists them), or give a profile of your own as a JSON file"
        )
    raise ProfileError(
        f"no hardware profile {name_or_path!r};{suggestion(name_or_path, known)} `aiwq hardware` lists all, "
        "a JSON file is given by its path"
    )


def profile_of(hardware: str | HardwareProfile | None) -> HardwareProfile:
    """A profile as it is; else `load_profile`."""
    return hardware if isinstance(hardware, HardwareProfile) else load_profile(hardware)


def default_profile() -> HardwareProfile:
    """What prices a model where nothing was calibrated: a processor that was, elsewhere, and is labelled as such.

    Seconds that were measured on another machine tell more of one's own than a datasheet does; where the package
    comes without its calibrations, the reference is left.
    """
    for folder in _shipped_folders():
        path = folder / DEFAULT_ID / "profile.json"
        if path.is_file():
            profile = read_profile(path)
            return replace(profile, name=f"{profile.name} (the default, not this machine)")
    return reference_profile()


def reference_profile() -> HardwareProfile:
    """One well documented processor's datasheet, and labelled as such."""
    from onnx_aiwq.datasheets import datasheet_profiles

    profile = datasheet_profiles()[REFERENCE_PROCESSOR]
    return replace(profile, id=REFERENCE_ID, name=f"{REFERENCE_PROCESSOR} (datasheet reference, not this machine)")


def read_profile(path: Path) -> HardwareProfile:
    """Read and validate a profile from a JSON file of the schema ``onnx_aiwq.profile/1``.

    Raises:
        ProfileError: if the file is absent, too large, or does not validate; one line, with the first wrong field.
    """
    try:
        found = path.stat()
        if found.st_size > MAX_PROFILE_BYTES:
            raise ProfileError(f"{path}: {found.st_size} bytes are no hardware profile (limit {MAX_PROFILE_BYTES})")
        return _validated(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProfileError(f"{path}: cannot read the hardware profile: {reason}; `aiwq hardware` lists names") from None


@functools.lru_cache(maxsize=4)
def _validated(path: Path, _modified_ns: int, _size: int) -> HardwareProfile:
    """The profile of a file as it was at that time: whoever analyses thousands of models reads it once."""
    text = path.read_bytes()
    try:
        return HardwareProfile.from_json(text)
    except ProfileError as error:
        raise ProfileError(f"{path}: not a valid hardware profile: {error}") from None


def user_profile_folder() -> Path:
    """Where calibration writes this user's profiles: ``profiles`` in the platform's data folder of onnx_aiwq."""
    import platformdirs

    return Path(platformdirs.user_data_dir("onnx_aiwq")) / "profiles"


def this_machine() -> str:
    """What a calibrated profile keeps as ``provenance["machine"]``: system, architecture and processor model."""
    return f"{platform.system()} {platform.machine()} {_processor_model()}"


def _processor_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return match.group(1).strip() if match else platform.processor()


def calibrated_profile_of_this_machine() -> HardwareProfile | None:
    """The user's newest profile that was calibrated on this machine, or None.

    One of the processor comes before one of a device beside it, and of one thread before those of several.

    Raises:
        ProfileError: if a profile in that folder does not validate: falling back would hide it.
    """
    machine = this_machine()
    own = [profile for profile in map(read_profile, _user_files()) if profile.provenance.get("machine") == machine]
    return max(own, key=_precedence, default=None)


def _precedence(profile: HardwareProfile) -> tuple[bool, bool, str, str]:
    """One thread of the processor is the setting of the TO paper; of several such profiles the newest counts."""
    return profile.kind == "cpu", profile.threads == 1, profile.provenance.get("date", ""), profile.id


def _shipped_folders() -> list[Path]:
    """Folders of shipped calibrations: inside the wheel, or beside the package in a source checkout; may be empty."""
    package = Path(__file__).parent
    checkout = package.parent
    beside = [checkout / "calibration"] if (checkout / "pyproject.toml").is_file() else []
    return [package / "calibration_data", *beside]


def _user_files() -> list[Path]:
    """Profiles that calibration wrote (a folder each), and files that were put beside them."""
    folder = user_profile_folder()
    return [*_json_files(folder, "*/profile.json"), *_json_files(folder, "*.json")]


def _json_files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def _all_profiles() -> Iterator[tuple[Origin, HardwareProfile]]:
    """Every profile, in the order in which an id or a name is looked up."""
    from onnx_aiwq.datasheets import datasheet_profiles

    yield "reference", reference_profile()
    for path in _user_files():
        yield "user", read_profile(path)
    for folder in _shipped_folders():
        for path in _json_files(folder, "*/profile.json"):
            yield "shipped", read_profile(path)
    for profile in datasheet_profiles().values():
        yield "datasheet", profile
