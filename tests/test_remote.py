"""Models at URLs: the right bytes, few of them, and clear errors."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_aiwq as aiwq
from byte_servers import serving, write_heavy_model
from fleets import PROCESS_TIMEOUT_S, rows
from onnx_aiwq.addresses import is_url, public_address
from onnx_aiwq.errors import AiwqError, ModelError, UnreadableError
from onnx_aiwq.remote import RangeView, open_ranges, read_beside
from onnx_aiwq.wireformat import strip_payloads

MODELS = Path(__file__).parents[1] / "models"


@pytest.mark.parametrize("seed", range(20))
def test_a_view_reads_what_the_file_holds(seed: int) -> None:
    random_ = random.Random(seed)
    data = random_.randbytes(random_.choice((1, 1000, 1025, 70_000, 700_000)))
    view = RangeView(lambda start, stop: data[start:stop], len(data))
    for _ in range(300):
        start = random_.randrange(len(data))
        if random_.random() < 0.5:
            assert view[start] == data[start]
        else:
            stop = start + random_.choice((0, 1, 10, 5000, 100_000))
            assert view[start:stop] == data[start:stop]
    assert view[:] == data
    assert view.fetched_bytes == len(data)  # nothing was fetched twice


def test_a_view_has_no_bytes_outside() -> None:
    view = RangeView(lambda start, stop: b"abc"[start:stop], 3)
    for position in (-1, 3):
        with pytest.raises(IndexError):
            view[position]
    assert view[2:100] == b"c"


def test_a_file_that_shrinks_meanwhile_is_an_error() -> None:
    view = RangeView(lambda start, stop: b"", 10)
    with pytest.raises(ModelError, match="did the file change"):
        view[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://host/a.onnx", True),
        ("s3://bucket/a.onnx", True),
        ("a.onnx", False),
        ("C:\\a.onnx", False),
        (b"", False),
    ],
)
def test_what_is_a_url(source: object, expected: bool) -> None:
    assert is_url(source) is expected


@pytest.mark.parametrize("name", ["resnet50.torchscript", "whisper-tiny.dynamo", "mobilenet-v2.qdq-int8"])
def test_a_model_over_http_gives_the_report_of_the_file(name: str) -> None:
    with serving(MODELS) as (address, _):
        remote = aiwq.analyze(f"{address}/{name}.onnx").to_dict()
    local = aiwq.analyze(MODELS / f"{name}.onnx").to_dict()
    assert remote["model"].pop("path").endswith(f"/{name}.onnx")
    local["model"].pop("path")
    assert remote == local


HEAVY = [
    (500, 1000, "raw_data"),
    (500, 1000, "float_data"),
    (500, 1000, "constant"),
    (1, 22_370, "raw_data"),  # in one piece
    (1, 22_370, "float_data"),
    pytest.param(5000, 317, "raw_data", marks=pytest.mark.slow),  # each place of its own is a request
]


@pytest.mark.parametrize(("layers", "width", "place"), HEAVY)
def test_two_gigabytes_over_http_cost_under_five_megabytes(tmp_path: Path, layers: int, width: int, place: str) -> None:
    macs = write_heavy_model(tmp_path / "heavy.onnx", layers, width, place)  # type: ignore[arg-type]
    assert 2_000_000_000 <= macs * 4 < (tmp_path / "heavy.onnx").stat().st_size < 1 << 31
    with serving(tmp_path) as (address, traffic):
        report = aiwq.analyze(f"{address}/heavy.onnx").to_dict()
    assert report["totals"]["macs"] == macs == layers * width * width
    assert report["model"]["parameter_bytes"] == 4 * macs
    assert traffic.all_bytes < 5_000_000


def test_a_graph_without_weights_is_fetched_in_few_pieces(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", [f"x{index}"], [f"x{index + 1}"], name=f"node{index}") for index in range(20_000)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x0", "x20000")]
    data = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:])).SerializeToString()
    view = RangeView(lambda start, stop: data[start:stop], len(data))
    assert strip_payloads(view) == data
    assert len(data) > 600_000
    assert (view.fetched_bytes, view.fetches <= 12) == (len(data), True)  # 512 times four each time, up to 256 KiB


def test_headers_are_fetched_by_the_size_that_they_have(tmp_path: Path) -> None:
    write_heavy_model(tmp_path / "heavy.onnx", layers=2000, width=100)
    with (tmp_path / "heavy.onnx").open("rb") as file:

        def read(start: int, stop: int) -> bytes:
            file.seek(start)
            return file.read(stop - start)

        view = RangeView(read, (tmp_path / "heavy.onnx").stat().st_size)
        strip_payloads(view)
    assert 2000 <= view.fetches < 2050
    assert view.fetched_bytes < 2000 * 100 + 200_000  # headers of some 40 bytes each, and 80 kB of nodes


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("command", ["analyze", "fleet"])
def test_two_gigabytes_over_nginx_cost_a_process_under_five_megabytes(tmp_path: Path, command: str) -> None:
    macs = write_heavy_model(tmp_path / "heavy.onnx", layers=500, width=1000)
    with _nginx(tmp_path) as (address, log):
        url = f"{address}/heavy.onnx"
        if command == "analyze":
            done = _aiwq("analyze", url, "--format", "json")
            found = json.loads(done.stdout)["totals"]["macs"]
        else:
            done = _aiwq("fleet", url, "--output", str(tmp_path / "out"))
            (row,) = rows(tmp_path / "out")
            found = row["macs"]
        time.sleep(0.2)  # the log is written after the answer
        sent = [int(line) for line in log.read_text().split()]
    assert (done.returncode, found) == (0, macs)
    assert len(sent) >= 500
    assert sum(sent) < 5_000_000


class _nginx:  # noqa: N801 - used as a function
    """nginx over a folder; its log has the bytes of every answer, headers included."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._log = folder / "bytes.log"
        self._configuration = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        scratch = " ".join(f"{kind}_temp_path {folder}/scratch;" for kind in ("client_body", "proxy", "fastcgi"))
        scratch += " ".join(f" {kind}_temp_path {folder}/scratch;" for kind in ("uwsgi", "scgi"))
        self._configuration.write_text(
            f"{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ log_format bytes $bytes_sent; access_log {self._log} bytes; {scratch}\n"
            f"server {{ listen 127.0.0.1:{self._port}; root {folder}; autoindex on; }} }}\n"
        )

    def __enter__(self) -> tuple[str, Path]:
        self._process = subprocess.Popen(["nginx", "-c", str(self._configuration)], stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    break
            time.sleep(0.05)
        return f"http://127.0.0.1:{self._port}", self._log

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def test_a_server_without_ranges_is_an_error_and_not_a_download(tmp_path: Path) -> None:
    write_heavy_model(tmp_path / "heavy.onnx", layers=20, width=1000)
    with serving(tmp_path, ranges=False) as (address, traffic), pytest.raises(ModelError, match="range"):
        aiwq.analyze(f"{address}/heavy.onnx")
    assert traffic.body_bytes < 20_000_000  # of 80 MB: what was under way when the connection was closed


@pytest.mark.parametrize(
    ("path", "message"),
    [("none.onnx", "no such file"), ("empty.onnx", "the file is empty"), ("text.onnx", "not a readable ONNX model")],
)
def test_bad_files_over_http_are_named(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("no model")
    with serving(tmp_path) as (address, _), pytest.raises(ModelError, match=message) as caught:
        aiwq.load(f"{address}/{path}")
    assert f"{address}/{path}" in str(caught.value)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ModelError, match="cannot be read"):
        open_ranges(f"http://127.0.0.1:{port}/a.onnx")


def test_an_unknown_kind_of_url_is_an_error() -> None:
    with pytest.raises(AiwqError, match="expected a path"):
        open_ranges("nonsense://a/b.onnx")


def _reshaped_by_outside_data(folder: Path) -> None:
    """A model whose Reshape takes its shape from another file."""
    shape = TensorProto(name="shape", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "data.bin"), ("offset", "8"), ("length", "16")):
        shape.external_data.add(key=key, value=value)
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [6]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Softmax", ["r"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "m.onnx")
    (folder / "data.bin").write_bytes(bytes(8) + np.array([2, 3], np.int64).tobytes())


def test_small_external_data_beside_a_remote_model_decides_shapes(tmp_path: Path) -> None:
    _reshaped_by_outside_data(tmp_path)
    with serving(tmp_path) as (address, _):
        graph = aiwq.load(f"{address}/m.onnx")
    assert graph.outputs[0].shape == (2, 3)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_external_data_that_is_refused_is_an_error_and_not_an_unknown(tmp_path: Path, status: int) -> None:
    _reshaped_by_outside_data(tmp_path)
    with (
        serving(tmp_path, failing={"data.bin": status}) as (address, _),
        pytest.raises(UnreadableError, match=rf"m\.onnx: its external data 'data\.bin': cannot be read: .*{status}"),
    ):
        aiwq.load(f"{address}/m.onnx")


def test_external_data_that_is_absent_stays_unknown(tmp_path: Path) -> None:
    _reshaped_by_outside_data(tmp_path)
    (tmp_path / "data.bin").unlink()
    with serving(tmp_path) as (address, _):
        remote = aiwq.load(f"{address}/m.onnx")
    local = aiwq.load(tmp_path / "m.onnx")
    assert remote.assumed_bindings == local.assumed_bindings != {}


SIGNATURE = "X-Amz-Signature=5ec2e7&sig=5ec2e7&token=5ec2e7"


@pytest.mark.parametrize("form", ["json", "table", "html", "csv", "markdown"])
def test_a_signed_url_leaves_no_secret_in_a_report(tmp_path: Path, form: str) -> None:
    write_heavy_model(tmp_path / "m.onnx", layers=2, width=8)
    with serving(tmp_path, query=SIGNATURE) as (address, _):
        url = f"{address.replace('://', '://someone:5ec2e7@')}/m.onnx?{SIGNATURE}"
        done = _aiwq("analyze", url, "--format", form)
        bounded = _aiwq("analyze", url, "--format", form, "--timeout", "60")
    assert (done.returncode, bounded.returncode) == (0, 0)
    assert "5ec2e7" not in done.stdout + done.stderr + bounded.stderr
    assert bounded.stdout == done.stdout
    if form == "json":
        assert json.loads(done.stdout)["model"]["path"] == f"{address}/m.onnx"


@pytest.mark.parametrize(
    ("name", "query", "message"),
    [
        ("m.onnx", "sig=5ec2e7-expired", "403"),
        ("none.onnx", SIGNATURE, "no such file"),
        ("empty.onnx", SIGNATURE, "the file is empty"),
        ("text.onnx", SIGNATURE, "not a readable ONNX model"),
    ],
)
def test_a_signed_url_leaves_no_secret_in_an_error(tmp_path: Path, name: str, query: str, message: str) -> None:
    write_heavy_model(tmp_path / "m.onnx", layers=2, width=8)
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("no model")
    with serving(tmp_path, query=SIGNATURE) as (address, _):
        done = _aiwq("analyze", f"{address}/{name}?{query}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{address}/{name}" in done.stderr and message in done.stderr and "5ec2e7" not in done.stderr


def _aiwq(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from onnx_aiwq.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROCESS_TIMEOUT_S)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pass@host:8443/a/b.onnx?sig=x#y", "https://host:8443/a/b.onnx"),
        ("https://host/a.onnx#token=x", "https://host/a.onnx"),
        ("s3://bucket/a?.onnx", "s3://bucket/a?.onnx"),
        ("s3://key:pass@bucket/a.onnx?versionId=x", "s3://bucket/a.onnx"),
        ("url='https://host/a.onnx?sig=x')", "url='https://host/a.onnx"),
        ("file:///home/a@b/c.onnx", "file:///home/a@b/c.onnx"),
        ("models/a?b=c.onnx", "models/a?b=c.onnx"),
    ],
)
def test_what_may_be_shown_of_an_address(text: str, expected: str) -> None:
    assert public_address(text) == expected


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../b", "http://other/x", "a?b", "a%2e", "", ".hidden"]
)
def test_external_data_elsewhere_is_not_fetched(tmp_path: Path, location: str) -> None:
    with serving(tmp_path) as (address, traffic):
        assert read_beside(f"{address}/models/m.onnx", location, 0, 8) is None
    assert traffic.requests == []


def test_without_fsspec_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "import onnx_aiwq as aiwq\n"
        "try: aiwq.load('https://host/a.onnx')\n"
        "except aiwq.errors.AiwqError as error: print(error)"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=PROCESS_TIMEOUT_S)
    assert "pip install 'onnx-aiwq[fleet]'" in done.stdout


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket in a local imitation of S3 that holds two models."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield from _bucket(monkeypatch)


def _bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        for name in ("resnet50.torchscript.onnx", "lstm.dynamo.onnx"):
            client.upload_file(str(MODELS / name), "models", f"zoo/{name}")
        yield "s3://models/zoo"
    finally:
        server.stop()


def test_a_model_in_s3_gives_the_report_of_the_file(bucket: str) -> None:
    name = "resnet50.torchscript.onnx"
    remote = aiwq.analyze(f"{bucket}/{name}").to_dict()["totals"]
    assert remote == aiwq.analyze(MODELS / name).to_dict()["totals"]


def test_a_folder_in_s3_is_listed_with_versions(bucket: str) -> None:
    from onnx_aiwq.fleet.sources import list_models

    found = list(list_models([bucket]))
    assert [each.model for each in found] == [f"{bucket}/lstm.dynamo.onnx", f"{bucket}/resnet50.torchscript.onnx"]
    assert all(each.version for each in found)
    assert [each.model for each in list_models([f"{bucket}/l*.onnx"])] == [f"{bucket}/lstm.dynamo.onnx"]
