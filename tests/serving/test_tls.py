"""TLS on both ports, and OpenTelemetry's spans if they are asked for."""

import contextlib
import shutil
import ssl
import subprocess
import sys

import pytest
from served_folder import Server, request, save_picky

pytest.importorskip("kserve", reason="needs the extra serving")

from kzoo.serving import server as server_module
from kzoo.serving import tracing

_GRPC = """
import sys, grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as protos

with open(sys.argv[2], "rb") as file:
    trusted = grpc.ssl_channel_credentials(file.read())
with grpc.secure_channel(sys.argv[1], trusted) as channel:
    call = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
    print(protos.ServerReadyResponse.FromString(call(b"", timeout=30)).ready)
"""


@pytest.mark.slow
def test_both_ports_speak_tls_and_nothing_else(tmp_path, monkeypatch):
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"

    def renew():
        words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
        words += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key]
        subprocess.run([openssl, *words, "-out", certificate], check=True, capture_output=True)

    renew()
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(ssl, "_create_default_https_context", lambda: trusting)
    save_picky(tmp_path / "models" / "picky" / "1")
    files = (f"--ssl_certfile={certificate}", f"--ssl_keyfile={key}")
    server = Server(tmp_path / "models", *files, scheme="https")
    with contextlib.closing(server):
        server.wait_until_ready()
        outputs = server.infer("picky", request(["7"], name="image_bytes"))
        assert outputs["text"] == ["7.0"]
        assert b"HTTP/1.1 200" not in server.raw(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        command = [sys.executable, "-c", _GRPC, f"localhost:{server.grpc_port}", certificate]

        def check():
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.stdout.split() == ["True"], done.stderr

        check()
        renew()  # the client trusts the new one alone
        check()
        key.write_bytes(b"half of a pair")  # the last one stays
        check()


def test_spans_are_sent_only_if_an_endpoint_is_named(monkeypatch):
    for name in (*tracing.ASKS, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    assert not tracing.is_asked_for() and not tracing.start()
    assert tracing.grpc_interceptors() == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    assert tracing.is_asked_for()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not tracing.is_asked_for()


def test_traces_without_their_extra_end_the_server_with_a_hint(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.instr")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.grpc", None)
    with pytest.raises(SystemExit, match=r"OTLP_TRACES_ENDPOINT asks .*kzoo\[tracing\]"):
        server_module.run(folder="nowhere")


def test_spans_stand_around_both_kinds_of_requests(monkeypatch):
    pytest.importorskip("opentelemetry.instrumentation.asgi", reason="needs the extra tracing")
    pytest.importorskip("opentelemetry.instrumentation.grpc", reason="needs the extra tracing")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    added = []

    class App:
        add_middleware = staticmethod(added.append)

    tracing.instrument_app(App)
    assert [kind.__name__ for kind in added] == ["OpenTelemetryMiddleware"]
    assert len(tracing.grpc_interceptors()) == 1
