"""A calibration as it runs: the samples file, interruption at any moment, refusals, and watts from meters."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from onnx_aiwq.calibration import power, session, stored
from onnx_aiwq.calibration.composites import composite
from onnx_aiwq.calibration.meters import PowerEstimate, Reading
from onnx_aiwq.calibration.meters.power_model import PowerModelMeter
from onnx_aiwq.calibration.meters.replay import ReplayMeter
from onnx_aiwq.calibration.profiling import CallOverhead
from onnx_aiwq.calibration.sampling import (
    Sample,
    append_samples,
    operator_from_record,
    operator_record,
    read_samples,
)
from onnx_aiwq.errors import MeterError, PolicyError, ProfileError
from onnx_aiwq.files import write_whole
from onnx_aiwq.graph import load
from onnx_aiwq.kernels import bytes_moved, describe, is_known
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.profiles import read_profile
from operators import operator

SETTINGS = stored.Settings("CPUExecutionProvider", 1, "all", 0, "1.0", "a machine")
OVERHEAD = CallOverhead(1e-5, 1e-6, 2e-6)


class Clock:
    """A reference kernel that takes no time and is always the same."""

    history = (1e-3,) * 30


def take(seed: int, *_: Any) -> list[Sample]:
    """Samples of a composite, made up from its seed."""
    numbers = random.Random(seed)
    found = []
    for index in range(10):
        size = numbers.randrange(100, 100_000)
        made = operator(("Relu", "Sigmoid", "Tanh")[index % 3], [(size,)], [(size,)])
        found.append(Sample(f"composite-{seed}", f"node_{index}", 1e-6 + size * 1e-9, 1e-3, made))
    return [*found, Sample(f"composite-{seed}", "", sum(each.seconds for each in found), 1e-3, None)]


def begun(folder: Path) -> stored.State:
    folder.mkdir(exist_ok=True)
    state = stored.State(SETTINGS, OVERHEAD)
    write_whole(folder / stored.SETTINGS, state.to_json())
    return state


def watts(total: float = 10.0, static: float = 4.0) -> PowerModelMeter:
    return PowerModelMeter(PowerEstimate(total, total / 2, total * 2, static, "package", "published figures", ()))


def taken(folder: Path, composites: int, meter: Any = None, state: stored.State | None = None) -> stored.State:
    return session.sample(
        folder,
        state or begun(folder),
        Clock(),  # type: ignore[arg-type]
        meter or watts(),
        minutes=None,
        composites=composites,
        progress=lambda *_: None,
        take=take,
    )


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2, 7, 13, 17])
def test_what_a_price_depends_on_survives_the_file(seed: int) -> None:
    operators = [each for each in load(composite(seed)).operators if not each.constant]
    assert len(operators) > 10
    for one in operators:
        again = operator_from_record(one.name, json.loads(json.dumps(operator_record(one))))
        assert (again.op_type, again.domain, again.version) == (one.op_type, one.domain, one.version)
        assert is_known(again)
        assert describe(again) == describe(one)
        assert [tensor and tensor.shape for tensor in again.outputs] == [
            tensor and tensor.shape for tensor in one.outputs
        ]
        if len({tensor.name for tensor in one.inputs if tensor}) == sum(tensor is not None for tensor in one.inputs):
            assert bytes_moved(again) == bytes_moved(one)
        rule = find_rule(one.op_type, one.domain, one.version)
        if rule is not None and rule.function is not None:
            assert rule.function(again) == rule.function(one)


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    append_samples(path, take(0))
    append_samples(path, take(1))
    rows = list(read_samples(path))
    assert [(row.composite, row.node) for row in rows] == [(row.composite, row.node) for row in [*take(0), *take(1)]]
    for row, given in zip(rows, [*take(0), *take(1)], strict=True):
        assert row.seconds == pytest.approx(given.seconds, rel=1e-3)
        assert (row.operator is None) == (given.operator is None)
    assert stored.finished(path) == {"composite-0", "composite-1"}


def test_how_long_ago_an_input_was_made_comes_back_where_it_is_known(tmp_path: Path) -> None:
    path, one = tmp_path / "samples.csv", take(0)[0]
    append_samples(path, [replace(one, since_bytes=12_345), one])
    assert [row.since_bytes for row in read_samples(path)] == [12_345, None]


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.97, 0.999])
def test_a_torn_composite_is_dropped_whole(tmp_path: Path, kept: float) -> None:
    """The process was killed while it wrote the second composite: of the first nothing is lost, of the second all."""
    path = tmp_path / "samples.csv"
    append_samples(path, take(0))
    first = path.read_bytes()
    append_samples(path, take(1))
    added = path.read_bytes()[len(first) :]
    path.write_bytes(first + added[: int(len(added) * kept)])
    stored.drop_unfinished(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("kept", [0, 5, 46, 47, 60, 500])
def test_a_torn_first_composite_leaves_a_file_that_goes_on(tmp_path: Path, kept: int) -> None:
    whole, torn = tmp_path / "whole.csv", tmp_path / "torn.csv"
    append_samples(whole, take(0))
    torn.write_bytes(whole.read_bytes()[:kept])
    stored.drop_unfinished(torn)
    append_samples(torn, take(0))
    assert torn.read_bytes() == whole.read_bytes()


CHILD = """
import os, random, signal, sys
from pathlib import Path
import test_session as t
from onnx_aiwq.calibration import session, stored

write = session.append_samples
session.Reference = lambda *_: t.Clock()
session.call_overhead = lambda *_: t.OVERHEAD

def attempt(folder, seed):
    numbers = random.Random(seed)
    left = [numbers.randrange(1, 8)]  # steps until the end
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
    def step():
        left[0] -= 1
        if left[0] == 0:
            die()
    def append(path, samples):
        step()
        if left[0] == 1:  # killed while it writes
            start = path.stat().st_size if path.exists() else 0
            write(path, samples)
            os.truncate(path, numbers.randrange(start, path.stat().st_size))
            die()
        write(path, samples)
    def take(seed, *rest):
        step()
        return t.take(seed)
    session.append_samples = append
    state, reference = session.begin(folder, t.SETTINGS, resume=(folder / stored.SETTINGS).exists())
    quiet = lambda *_: None
    session.sample(folder, state, reference, t.watts(), minutes=None, composites=14, progress=quiet, take=take)

killed = 0
for seed in range(100):
    child = os.fork()
    if not child:
        attempt(Path(sys.argv[1]), seed)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        print(killed)
        sys.exit(0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        sys.exit(f"failed in round {seed}")
    killed += 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed that were forked")
@pytest.mark.parametrize("run", range(3))
def test_killed_at_random_moments_and_resumed_is_the_same_file(tmp_path: Path, run: int) -> None:
    script = CHILD.replace("Random(seed)", f"Random(1000 * {run} + seed)")
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    arguments = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    taken(tmp_path / "undisturbed", 14)
    assert (tmp_path / "run" / stored.SAMPLES).read_bytes() == (tmp_path / "undisturbed" / stored.SAMPLES).read_bytes()


# --- refusals ----------------------------------------------------------------------------------------------------


def test_what_is_begun_goes_on_only_when_asked_and_with_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "Reference", lambda *_: Clock())
    monkeypatch.setattr(session, "call_overhead", lambda *_: OVERHEAD)
    session.begin(tmp_path, SETTINGS, resume=False)
    with pytest.raises(PolicyError, match="add --resume"):
        session.begin(tmp_path, SETTINGS, resume=False)
    other = stored.Settings("CPUExecutionProvider", 2, "all", 0, "1.1", "a machine")
    with pytest.raises(PolicyError, match=r"threads 1 there, 2 here; runtime '1.0' there, '1.1' here"):
        session.begin(tmp_path, other, resume=True)
    state, _ = session.begin(tmp_path, SETTINGS, resume=True)
    assert state == stored.State(SETTINGS, OVERHEAD)


def test_samples_of_unknown_origin_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "Reference", lambda *_: Clock())
    append_samples(tmp_path / stored.SAMPLES, take(0))
    with pytest.raises(PolicyError, match=r"samples.csv has no calibration.json beside it"):
        session.begin(tmp_path, SETTINGS, resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": {}}', '{"settings": {"provider": 1}}'])
def test_settings_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / stored.SETTINGS).write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=r"calibration.json: not the settings of a calibration"):
        stored.read_state(tmp_path)
    with pytest.raises(ProfileError, match="cannot read the calibration"):
        stored.read_state(tmp_path / "absent")


def test_providers_that_cannot_be_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MeterError, match=r"does not offer NoneExecutionProvider; it offers .*CPUExecutionProvider"):
        stored.settings_of("NoneExecutionProvider", 1, "all", 0)
    offered = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    monkeypatch.setattr(stored.ort, "get_available_providers", lambda: offered)
    with pytest.raises(MeterError, match="CPUExecutionProvider and CUDAExecutionProvider can be calibrated"):
        stored.settings_of("TensorrtExecutionProvider", 1, "all", 0)
    with pytest.raises(PolicyError, match="--threads 2: CUDAExecutionProvider computes on its device"):
        stored.settings_of("CUDAExecutionProvider", 2, "all", 0)
    assert stored.settings_of("CUDAExecutionProvider", 1, "all", 0).as_runtime.device == "cuda"


@pytest.mark.parametrize(("board", "name"), [("NVIDIA H100", "NVIDIA H100, CUDA"), (None, r".+, CUDA")])
def test_the_profile_of_a_device_says_so(
    board: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is written and read back: the least time of a kernel, the provider, the board."""
    for module in (session, stored):
        monkeypatch.setattr(module, "board_name", lambda: board)
    settings = stored.Settings("CUDAExecutionProvider", 1, "all", 0, "1.0", "a machine")
    state = taken(tmp_path, 12, state=stored.State(settings, CallOverhead(1e-5, 1e-6, 2e-6, least_s=1e-6)))
    assert stored.read_state(tmp_path) == state
    profile = session.finish(tmp_path, state, watts())
    assert profile.kernels is not None
    assert (profile.kind, profile.provider, profile.kernels.provider) == ("gpu", *[settings.provider] * 2)
    assert profile.provenance["accelerator"] == (board or "unknown")
    assert re.fullmatch(name, profile.name)
    on_processor = session.finish(tmp_path / "cpu", taken(tmp_path / "cpu", 12), watts())
    assert (on_processor.kind, "accelerator" in on_processor.provenance) == ("cpu", False)


def test_too_few_composites_make_no_profile(tmp_path: Path) -> None:
    state = taken(tmp_path, 3)
    with pytest.raises(ProfileError, match="holds 3 composites; a fit needs 12: go on with --resume"):
        session.finish(tmp_path, state, watts())


def test_a_profile_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = taken(tmp_path / "first", 12)
    first = session.finish(tmp_path / "first", state, watts())
    text = (tmp_path / "first" / stored.PROFILE).read_bytes()
    for refused in (
        lambda: session.finish(tmp_path / "first", state, watts()),
        lambda: stored.new_folder(tmp_path / "first", SETTINGS, None),
    ):
        with pytest.raises(ProfileError, match="never overwritten"):
            refused()
    assert (tmp_path / "first" / stored.PROFILE).read_bytes() == text
    # Among the user's profiles a free folder is found.
    monkeypatch.setattr(stored, "user_profile_folder", lambda: tmp_path)
    assert stored.new_folder(None, SETTINGS, "first") == tmp_path / "first-2"
    assert stored.new_folder(None, SETTINGS, "second") == tmp_path / "second"

    again = session.finish(
        tmp_path / "first", stored.read_state(tmp_path / "first"), watts(), target=tmp_path / "again"
    )
    assert (tmp_path / "again" / stored.SAMPLES).read_bytes() == (tmp_path / "first" / stored.SAMPLES).read_bytes()
    same = {"id": "first", "provenance": {**again.provenance, "date": first.provenance["date"]}}
    assert changed(again, **same) == first
    assert read_profile(tmp_path / "again" / stored.PROFILE) == again


# --- watts -------------------------------------------------------------------------------------------------------


class Fixed:
    """A meter whose windows last a second and hold the given joules in turn, the last one over and over."""

    name, label, scope, minimum_window_s = "rapl", "measured", "CPU package", 0.0
    notes = ()

    def __init__(self, *joules: float) -> None:
        self.joules = list(joules)
        self.windows = 0

    def start(self) -> None:
        pass

    def stop(self) -> Reading:
        self.windows += 1
        joules = self.joules[min(self.windows, len(self.joules)) - 1]
        return Reading(joules, joules, joules, 1.0, "measured", self.scope)

    def close(self) -> None:
        pass


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that last no second: time jumps."""
    now = [0.0]

    def tick() -> float:
        now[0] += 0.6
        return now[0]

    monkeypatch.setattr(power, "time", SimpleNamespace(sleep=lambda seconds: None, perf_counter=tick))


def test_a_meter_measures_idle_first_and_then_composites_in_floats(tmp_path: Path, short: None) -> None:
    meter = Fixed(3.0, 10.0, 12.0)
    state = taken(tmp_path, 5, meter)  # of 0, 1, 2, 3, 4 the last two are int8
    assert state.idle == ((3.0, 1.0),)
    assert state.windows == ((10.0, 1.0), (12.0, 1.0), (12.0, 1.0))
    assert stored.read_state(tmp_path) == state
    found = power.power_of(meter, state)  # type: ignore[arg-type]
    assert (found.source, found.static_watts, found.scope) == ("measured", 3.0, "CPU package")
    assert found.dynamic_watts == pytest.approx(34 / 3 - 3)
    assert (found.low_factor, found.high_factor) == (pytest.approx(30 / 34), pytest.approx(36 / 34))
    assert found.basis == "rapl: 3 composites at work, 10 to 12 W"


def test_a_resumed_calibration_keeps_its_windows_and_measures_some_where_there_are_none(
    tmp_path: Path, short: None
) -> None:
    taken(tmp_path, 3)  # with the power model: no windows
    meter = Fixed(3.0, 10.0)
    state = taken(tmp_path, 3, meter, stored.read_state(tmp_path))
    assert (len(state.idle), len(state.windows)) == (1, 4)
    assert taken(tmp_path, 3, meter, stored.read_state(tmp_path)).windows == state.windows
    assert meter.windows == 5


def test_a_meter_that_does_not_see_the_work_is_refused(tmp_path: Path) -> None:
    state = stored.State(SETTINGS, OVERHEAD, windows=((3.0, 1.0),), idle=((3.5, 1.0),))
    with pytest.raises(MeterError, match=r"3 W at work and 3.5 W idle: it does not see this work"):
        power.power_of(Fixed(1.0), state)  # type: ignore[arg-type]
    with pytest.raises(MeterError, match="has measured no window"):
        power.power_of(Fixed(1.0), stored.State(SETTINGS, OVERHEAD))  # type: ignore[arg-type]


def test_a_replayed_trace_makes_a_replayed_profile(tmp_path: Path, short: None) -> None:
    rows = "".join(
        f"{window},{10 * window},0\n{window},{10 * window + 2},{12 if window else 6}\n" for window in range(9)
    )
    trace = tmp_path / "trace.csv"
    trace.write_text(f"# scope: a board\nwindow,seconds,joules\n{rows}", encoding="utf-8")
    meter = ReplayMeter(trace)
    folder = tmp_path / "run"
    state = taken(folder, 12, meter)
    profile = session.finish(folder, state, meter)
    assert profile.source == "replayed"
    assert profile.static_watts == pytest.approx(3)  # 6 J in 2 s idle, 12 J in 2 s at work
    assert profile.dynamic_watts == pytest.approx(3)
    assert profile.provenance["scope"] == "a board"
    dense = [each for each in profile.coefficients if each.family == "activation"]
    assert dense and all(each.joules_per_to == pytest.approx(3 * each.seconds_per_to) for each in dense)


def test_the_power_model_keeps_its_label_and_interval(tmp_path: Path) -> None:
    found = power.power_of(watts(10, 4), stored.State(SETTINGS, OVERHEAD))
    assert (found.source, found.static_watts, found.dynamic_watts) == ("modelled", 4, 6)
    assert (found.low_factor, found.high_factor) == (0.5, 2.0)
