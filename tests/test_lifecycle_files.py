"""Life cycle files that are wrong: one line that names the key, its line, what may stand there and the nearest name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.lifecycle import LifeCycle, evaluate, example_text, network_of, parse_lifecycle, read_lifecycle

CONTRACT = """\
[data]          # what is collected for development
samples = 256
values_per_sample = 10
bits_per_value = 64
[[hops]]        # links that samples travel; default one generic hop
stack = "generic"          # or a list of named protocols per layer
failure_rate = 0.0
[preprocessing]
method = "zscore"          # zscore | minmax | gadf | none
[training]
epochs = 50
split = 0.8                # or folds = 5
[inference]
count = 100
[overhead]
virtualization = 0.10
[compute]                  # how computation costs: one of
joules_per_flop = 1.4e-8   #   a constant (the paper's way: peak power over peak rate), or
# hardware = "NAME"        #   a calibrated profile, per stage if wanted ([compute.training], [compute.inference])
[model]                    # what runs: one of
forward_flops = 670        #   a number, or
# file = "model.onnx"      #   an ONNX model, counted
"""


def test_the_file_of_the_contract_is_the_example() -> None:
    assert parse_lifecycle(CONTRACT) == parse_lifecycle(example_text())


def test_the_commented_lines_of_the_example_are_valid() -> None:
    """All of them at once, but for those that are alternatives to what stands there."""
    lines, table = [], ""
    for line in example_text().splitlines():
        bare = re.sub(r"^# (?=[a-z_]+ = |\[)", "", line)
        header = re.match(r"\[+([a-z_.]+)\]", bare)
        table = header.group(1) if header else table
        key = re.match(r"([a-z_]+) =", bare)
        alternative = table in ("compute", "model") and key is not None and line.startswith("#")
        lines.append(line if alternative else bare)
    life = parse_lifecycle("\n".join(lines))
    assert life.storage is not None
    assert life.compute.training is not None
    assert life.protocols[0].name == "LORA"
    assert life.conventions == parse_lifecycle(example_text()).conventions  # it shows the defaults


def changed(old: str, new: str) -> str:
    assert old in CONTRACT
    return CONTRACT.replace(old, new, 1)


BAD = {
    "unknown key": (
        changed("epochs = 50", "epoch = 50"),
        [r"line 11: \[training\] epoch: unknown key", "'epochs'", "folds"],
    ),
    "unknown section": (changed("[overhead]", "[overheads]"), [r"line 15: overheads: unknown key", "'overhead'"]),
    "unknown key of a hop": (changed("failure_rate", "failure"), [r"line 7: \[hops\.1\] failure: ", "'failure_rate'"]),
    "unknown method": (
        changed('"zscore"', '"zscor"'),
        [r"line 9: \[preprocessing\] method", "'zscor'", "'zscore'", "gadf"],
    ),
    "text for a number": (changed("= 256", '= "256"'), [r"line 2: \[data\] samples", "integer", "'256'"]),
    "truth for a number": (changed("= 256", "= true"), [r"line 2: \[data\] samples", "true"]),
    "fraction for a whole number": (changed("= 50", "= 50.5"), [r"\[training\] epochs", "50.5"]),
    "number for a text": (changed('"zscore"', "3"), [r"\[preprocessing\] method", "found 3"]),
    "negative": (changed("1.4e-8", "-1.4e-8"), [r"\[compute\] joules_per_flop", "greater than 0", "-1.4e-08"]),
    "not a number": (changed("1.4e-8", "nan"), [r"\[compute\] joules_per_flop", "finite", "nan"]),
    "infinite": (changed("670", "inf"), [r"\[model\] forward_flops", "finite"]),
    "everything fails": (
        changed("failure_rate = 0.0", "failure_rate = 1"),
        [r"line 7: \[hops\.1\] failure_rate", "less than 1"],
    ),
    "no samples": (changed("= 256", "= 0"), [r"line 2: \[data\] samples", "greater than or equal to 1", "found 0"]),
    "split 0": (changed("0.8 ", "0 "), [r"line 12: \[training\] split", "greater than 0"]),
    "split 1": (changed("0.8 ", "1.0 "), [r"line 12: \[training\] split", "less than 1"]),
    "split and folds": (changed("split = 0.8", "split = 0.8\nfolds = 5"), [r"\[?training\]?", "found both"]),
    "neither": (changed("split = 0.8", ""), ["training", "split", "folds", "found neither"]),
    "one fold": (changed("split = 0.8", "folds = 1"), [r"\[training\] folds", "2"]),
    "no inference": (changed("count = 100", "count = 0"), [r"\[inference\] count"]),
    "too many inferences": (changed("count = 100", "count = 1e19"), [r"\[inference\] count"]),
    "two prices": (
        changed("joules_per_flop", 'hardware = "x"\njoules_per_flop'),
        ["compute", "found .*joules_per_flop.*hardware"],
    ),
    "half a price": (
        changed("joules_per_flop = 1.4e-8", "watts = 3"),
        ["compute", "watts and flops_per_s belong together"],
    ),
    "empty stage": (
        changed("[model]", "[compute.training]\n[model]"),
        [r"line 20: \[compute\] training", "give one of"],
    ),
    "two models": (changed("670", '670\nfile = "m.onnx"'), ["model", "found both"]),
    "no samples key": (changed("samples = 256\n", ""), [r"\[data\] samples: missing"]),
    "no data": (CONTRACT.split("[[hops]]")[1].join(["[[hops]]", ""]), ["data: missing"]),
    "value for a section": (
        "inference = 3\n" + CONTRACT.replace("[inference]\ncount = 100\n", ""),
        ["line 1: inference: expected a table, found 3"],
    ),
    "value for a table": ("data = 3\n", [r"line 1: data: expected a table, found 3"]),
    "a key twice": (changed("= 256", "= 256\nsamples = 1"), ["not TOML", "line 3"]),
    "no TOML": ("this is no table\n", ["not TOML", "line 1"]),
    "digits without end": (changed("= 256", "= " + "9" * 5000), ["TOML|samples"]),
    "virtualization in percent": (changed("0.10", "10"), [r"\[overhead\] virtualization", "less than or equal to 1"]),
    "too few disks": (
        CONTRACT + '[storage]\nmedium = "ssd"\nraid = "raid6"\ndisks = 3\n',
        ["storage", "raid6 needs at least 4"],
    ),
    "wrong layer": (
        CONTRACT
        + '[[protocols]]\nname = "X"\nlayer = "radio"\ndata_overhead = 0\ncontrol_overhead = 0\nsend_j_per_bit = 0\n'
        "receive_j_per_bit = 0\n",
        [r"line 25: \[protocols\.1\] layer", "'radio'", "physical"],
    ),
    "half a protocol": (
        CONTRACT + '[[protocols]]\nname = "X"\n',
        [r"line 23: \[protocols\.1\] control_overhead: missing", "and 1 more"],
    ),
    "wrong convention": (CONTRACT + '[conventions]\nlayer_terms = "equation3"\n', ["layer_terms", "'equation_3'"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    text, fragments = BAD[name]
    file = tmp_path / "life.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        read_lifecycle(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    for fragment in fragments:
        assert re.search(fragment, message), message


def test_several_problems_are_told_in_the_order_of_the_file() -> None:
    text = changed("= 256", "= 0").replace('"zscore"', '"z"').replace("0.8", "2")
    with pytest.raises(PolicyError) as caught:
        parse_lifecycle(text)
    lines = [int(number) for number in re.findall(r"line (\d+):", str(caught.value))]
    assert lines == [2, 9, 12]


@pytest.mark.parametrize(
    ("stack", "named"),
    [('["HTTP", "FTP"]', "both of the application layer"), ('["HTPP"]', "'HTTP'"), ('"generik"', "'generic'")],
)
def test_protocols_are_checked_when_the_life_cycle_is_computed(stack: str, named: str) -> None:
    life = parse_lifecycle(changed('"generic"', stack))
    assert life.model is not None
    with pytest.raises(PolicyError, match=named):
        evaluate(life, network_of(life.model))


@pytest.mark.parametrize("stack", ["[]", "3", "[3]", '[""]'])
def test_stacks_of_the_wrong_type(stack: str) -> None:
    with pytest.raises(PolicyError, match=r"line 6: \[hops\.1\] stack|line 6: \[hops\.1\.stack\] 1"):
        parse_lifecycle(changed('"generic"', stack))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="directory"):
        read_lifecycle(tmp_path)
    with pytest.raises(PolicyError, match=r"no such file.*--example"):
        read_lifecycle(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"[data]\nsamples = 1 # \xe9\n")
    with pytest.raises(PolicyError, match="line 2: not UTF-8"):
        read_lifecycle(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(PolicyError, match="no life cycle file"):
        read_lifecycle(tmp_path / "large.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 20_000, encoding="utf-8")
    with pytest.raises(PolicyError, match="not TOML"):
        read_lifecycle(tmp_path / "deep.toml")


def test_whole_numbers_may_be_written_as_powers_of_ten() -> None:
    assert parse_lifecycle(changed("count = 100", "count = 1e8")).inference.count == 10**8


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2000), st.characters(max_codepoint=0x2FF)), min_size=1, max_size=5))
def test_damaged_files_are_read_or_refused(changes: list[tuple[int, str]]) -> None:
    text = list(CONTRACT)
    for position, character in changes:
        text[position % len(text)] = character
    try:
        life = parse_lifecycle("".join(text))
    except PolicyError as error:
        assert str(error)
    else:
        assert isinstance(life, LifeCycle)
