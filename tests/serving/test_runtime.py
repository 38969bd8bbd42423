"""The runtime and the protocol, in this process: the same answers as `kzoo.load`."""

import asyncio
import base64
import json
import re
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exported import OPTIONS, TEXTS, multilingual
from served_folder import BAD, DEFAULTS, ROWS, request, save_picky, texts_of

from kzoo import export
from kzoo.export import warmup

pytest.importorskip("kserve", reason="needs the extra serving")

from kserve.protocol.grpc import grpc_predict_v2_pb2 as protos

from kzoo.serving import answers, protocol
from kzoo.serving.errors import Refused
from kzoo.serving.runtime import SavedModelRuntime
from kzoo.serving.session import SavedModelSession


@pytest.fixture(scope="module")
def runtime(folder):
    """Gives a function from a coroutine function of a loaded model to what that returns."""
    loop, models = asyncio.new_event_loop(), {}

    def run(use, **options):
        key = tuple(options.items())
        if key not in models:  # tracing takes seconds
            path = folder / "rnn" / "2"
            models[key] = SavedModelRuntime("rnn", "2", path, {**DEFAULTS, **options})
        return loop.run_until_complete(use(models[key]))

    yield run
    for model in models.values():
        model.close()
    loop.close()


def answered(body):
    """The outputs of a V2 answer over HTTP, decoded."""

    async def use(model):
        parsed = protocol.v2_request(json.dumps(body).encode(), ROWS)
        outputs = await model.answer(parsed)
        answer, _ = answers.v2_answer(parsed, model.name, model.version, outputs)
        return {output["name"]: output for output in json.loads(answer)["outputs"]}

    return use


def test_every_signature_answers_as_load_does(runtime, served):
    outputs = runtime(answered(request()))
    assert outputs["text"]["data"] == served["rnn"](TEXTS)
    assert outputs["score"]["shape"] == [len(TEXTS)]

    outputs = runtime(answered(request(signature="n_best")))
    pairs = served["rnn"].n_best(TEXTS)
    assert outputs["text"]["shape"] == [len(TEXTS), 3]
    assert outputs["text"]["data"] == [text for row in pairs for text, _ in row]
    np.testing.assert_allclose(outputs["score"]["data"], [s for row in pairs for _, s in row], 1e-5)

    outputs = runtime(answered(request(TEXTS[:1], signature="align")))
    expected = served["rnn"].align(TEXTS[0])
    assert outputs["target_tokens"]["data"] == expected.target_tokens
    assert outputs["alignment"]["shape"] == [1, *expected.weights.shape]
    weights = outputs["alignment"]["data"]
    np.testing.assert_allclose(weights, expected.weights.ravel(), 1e-4, 1e-6)


def test_a_signature_of_two_inputs_is_answered_and_wants_both(runtime, served):
    body = request(signature="complete")
    prefixes = {"name": "prefix", "shape": [3], "datatype": "BYTES", "data": ["a", "", "b"]}
    body["inputs"].insert(0, prefixes)
    outputs = runtime(answered(body))
    expected = [served["rnn"].complete(*pair) for pair in zip(TEXTS, ["a", "", "b"], strict=True)]
    assert outputs["text"]["data"] == [answer.text for answer in expected]

    prefixes |= {"shape": [2], "data": ["a", ""]}
    for message, spoilt in {
        "`inputs` must be tensors named 'text' and 'prefix', got ['text']": request(
            signature="complete"
        ),
        "`inputs` must have the same number of rows, got {'prefix': 2, 'text': 3}": body,
    }.items():
        with pytest.raises(Refused, match=re.escape(message)):
            runtime(answered(spoilt))


def test_a_language_may_be_left_out_or_be_one_for_all_texts_or_one_for_each(tmp_path):
    names = ["serving_default", "n_best", "align"]
    export.save(multilingual(), tmp_path / "many" / "1", signatures=names, **OPTIONS)
    served = export.load(tmp_path / "many")

    def asked(languages=None, texts=TEXTS, signature=None):
        body = request(texts, signature)
        if languages is not None:
            tensor = {"name": "language", "shape": [len(languages)], "datatype": "BYTES"}
            body["inputs"].insert(0, {**tensor, "data": languages})
        return body

    async def use():
        model = SavedModelRuntime("many", "1", tmp_path / "many" / "1", DEFAULTS)
        assert [tensor["name"] for tensor in model.inputs] == ["text", "language"]
        for languages in (None, ["fr"], ["fr", "", "pt_BR"]):
            found = (await answered(asked(languages))(model))["text"]["data"]
            codes = (languages or [""]) * (3 // len(languages or [""]))
            assert found == served(TEXTS, language=codes)
        found = await answered(asked(["fr"], TEXTS[:1], "align"))(model)
        assert found["source_tokens"]["data"][0] == "▁>>fr<<"
        answers = await asyncio.gather(
            *(answered(asked([code]))(model) for code in ("de", "it", "fr")), return_exceptions=True
        )
        assert answers[0]["text"]["data"] == served(TEXTS, language="de")
        assert answers[2]["text"]["data"] == served(TEXTS, language="fr")
        assert answers[1].status == 400
        assert "`language` must be one of de, fr, pt_BR, got it, it, it." in str(answers[1])
        for message, body in {
            "rows, got {'language': 2, 'text': 3}": asked(["de", "fr"]),
            "tensors named 'text' and perhaps 'language', got ['txt']": request(name="txt"),
        }.items():
            with pytest.raises(Refused, match=re.escape(message)):
                await answered(body)(model)
        model.close()

    asyncio.run(use())


def test_a_hypothesis_that_there_is_not_has_the_lowest_score_that_json_can_write(runtime):
    outputs = runtime(answered(request([""], signature="n_best")))
    assert outputs["score"]["data"] == [0.0] + 2 * [float(np.finfo(np.float32).min)]


def test_base64_and_nested_rows_are_taken_and_outputs_chosen(runtime, served):
    encoded = [base64.b64encode(text.encode()).decode() for text in TEXTS]
    body = request(encoded, parameters={"content_type": "base64"})
    body["outputs"] = [{"name": "text"}]
    outputs = runtime(answered(body))
    assert list(outputs) == ["text"]
    assert outputs["text"]["data"] == served["rnn"](TEXTS)
    nested = request([[text] for text in TEXTS], shape=[len(TEXTS), 1])
    assert runtime(answered(nested))["text"]["data"] == outputs["text"]["data"]


def test_binary_tensors_come_and_go_as_the_protocol_says():
    texts = [b"\xff\x00", b"", "é".encode()]
    binary = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    tensor = {"name": "text", "shape": [3], "datatype": "BYTES"}
    tensor["parameters"] = {"binary_data_size": len(binary)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    parsed = protocol.v2_request(head + binary, 3, str(len(head)))
    assert parsed.inputs[0].data == texts
    outputs = {"text": np.array(texts[1:], object), "score": np.array([1.5, 2], np.float32)}
    answer, length = answers.v2_answer(parsed, "m", "1", outputs)
    sizes = [o["parameters"]["binary_data_size"] for o in json.loads(answer[:length])["outputs"]]
    assert sizes == [4 + 4 + 2, 8] and len(answer) == length + sum(sizes)
    assert answer[-8:] == struct.pack("<2f", 1.5, 2)

    outputs = [{"name": "text"}, {"name": "score", "parameters": {"binary_data": False}}]
    body = {"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": True}}
    assert protocol.v2_request(json.dumps(body).encode(), 3).binary == {"text"}

    for message, length in {"at most": "x", "the bytes of the body": str(len(head) + 99)}.items():
        with pytest.raises(Refused, match=f"Inference-Header-Content-Length.*{message}"):
            protocol.v2_request(head + binary, 3, length)
    with pytest.raises(Refused, match=r"`shape` of 'text' must be \[N\] with N .* 2, got more"):
        protocol.v2_request(head + binary, 2, str(len(head)))
    tensor["parameters"] = {"binary_data_size": 9}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(Refused, match="binary data of 'text' must end with an element"):
        protocol.v2_request(head + struct.pack("<I", 1 << 31) + b"short", 3, str(len(head)))


def millions(kind):
    """A body of 16 MB in which there are millions of empty things."""
    good = json.dumps(request(TEXTS[:1])).encode()
    if kind == "elements":
        tensor = {"name": "text", "shape": [4_000_000], "datatype": "BYTES"}
        tensor["parameters"] = {"binary_data_size": 16_000_000}
        head = json.dumps({"inputs": [tensor]}).encode()
        return head + bytes(16_000_000), str(len(head))
    if kind == "inputs":
        empty = b'{"name":"","shape":[],"datatype":"","data":[]},'
        return good.replace(b'"inputs": [', b'"inputs": [' + 340_000 * empty), None
    outputs = b'"outputs": [' + 1_200_000 * b'{"name":"a"},'
    return good.replace(b"{", b"{" + outputs[:-1] + b"],", 1), None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("elements", "must be [N] with N from 1 to 7, got more."),
        ("inputs", "`inputs` must have at most 64 tensors, got 340001."),
        ("outputs", "`outputs` must have at most 64 tensors, got 1200000."),
    ],
)
def test_millions_of_empty_things_are_counted_and_not_unpacked(kind, message):
    body, length = millions(kind)
    seconds = []
    for _ in range(3):  # the least of them, as a busy machine slows each down
        start = time.thread_time()
        with pytest.raises(Refused, match=re.escape(message)):
            protocol.v2_request(body, ROWS, length)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 1.5  # the event loop waits


def test_v1_and_grpc_also_count_before_they_unpack():
    arguments = {"serving_default": ["text"]}
    names = json.dumps({"instances": [dict.fromkeys(map(str, range(65)), "")]}).encode()
    for message, body in {
        "`instances` must have at most 7 rows, got 8.": b'{"instances": ["","","","","","","",""]}',
        "`inputs` must have at most 64 tensors, got 65.": names,
    }.items():
        with pytest.raises(Refused, match=re.escape(message)):
            protocol.v1_request(body, arguments, ROWS)

    message = protos.ModelInferRequest()
    tensor = message.inputs.add(name="text", datatype="BYTES", shape=[99])
    tensor.contents.bytes_contents.extend(99 * [b""])
    with pytest.raises(Refused, match=r"from 1 to 7, got \[99\]"):
        protocol.grpc_request(message, ROWS)
    del tensor.contents.bytes_contents[:]
    message.raw_input_contents.append(bytes(4 * 8))
    with pytest.raises(Refused, match="from 1 to 7, got more"):
        protocol.grpc_request(message, ROWS)
    del message.raw_input_contents[:]
    for name in ("outputs", "inputs"):
        for turn in range(65 - len(getattr(message, name))):
            getattr(message, name).add(name=str(turn))
        with pytest.raises(Refused, match=f"`{name}` must have at most 64 tensors, got 65"):
            protocol.grpc_request(message, ROWS)


def test_v1_takes_instances_as_tensorflow_serving_does(runtime, served):
    async def predicted(model, body):
        parsed = protocol.v1_request(json.dumps(body).encode(), model.arguments, ROWS)
        return json.loads(answers.v1_answer(await model.answer(parsed)))["predictions"]

    async def use(model):
        encoded = {"b64": base64.b64encode(TEXTS[1].encode()).decode()}
        rows = [TEXTS[0], {"text": encoded}, encoded]
        several = await predicted(model, {"instances": rows})
        best = await predicted(model, {"instances": TEXTS[:1], "signature_name": "n_best"})
        for message, instances in {
            "`instances` must be a list, got None": None,
            "got some without": [{"text": "a"}, {"text": "a", "prefix": "b"}],
            "must hold strings, got 3": [3],
            "N from 1 to 7, got [0]": [],
        }.items():
            with pytest.raises(Refused, match=re.escape(message)):
                await predicted(model, {"instances": instances})
        return several, best

    several, best = runtime(use)
    expected = served["rnn"]([TEXTS[0], TEXTS[1], TEXTS[1]])
    assert [row["text"] for row in several] == expected
    assert isinstance(several[0]["score"], float)
    assert best[0]["text"] == [text for text, _ in served["rnn"].n_best(TEXTS[0])]


@pytest.mark.parametrize("message", BAD)
def test_a_bad_request_is_named_with_status_400_and_the_next_is_answered(runtime, served, message):
    async def use(model):
        with pytest.raises(Refused) as refused:
            await answered(BAD[message])(model)
        return refused.value, await answered(request())(model)

    error, outputs = runtime(use)
    assert message in str(error) and error.status == 400
    assert outputs["text"]["data"] == served["rnn"](TEXTS)


def test_requests_at_the_same_time_share_batches_and_get_their_own_rows(runtime, served):
    bodies = [request([TEXTS[i % 3], TEXTS[(i + 1) % 3]][: 1 + i % 2]) for i in range(11)]

    async def use(model):
        start = time.perf_counter()
        answers = await asyncio.gather(*(answered(body)(model) for body in bodies))
        return answers, time.perf_counter() - start

    answers, seconds = runtime(use, max_delay_ms=1000.0)
    for body, outputs in zip(bodies, answers, strict=True):
        assert outputs["text"]["data"] == served["rnn"](body["inputs"][0]["data"])
    assert seconds < 11  # one after the other they would wait a second each


def test_two_models_at_the_same_time_do_not_share_batches(runtime, served, folder):
    async def use(model):
        path = folder / "transformer" / "10"
        other = SavedModelRuntime("transformer", "10", path, DEFAULTS)
        bodies = [request(TEXTS[:1]) for _ in range(6)]
        pairs = zip(bodies, 3 * [model, other], strict=True)
        return await asyncio.gather(*(answered(body)(each) for body, each in pairs))

    for turn, outputs in enumerate(runtime(use)):
        expected = served["transformer" if turn % 2 else "rnn"](TEXTS[0])
        assert outputs["text"]["data"] == [expected]


def test_a_batch_size_of_one_answers_without_batches(runtime, served):
    outputs = runtime(answered(request(TEXTS[:1])), max_batch_size=1)
    assert outputs["text"]["data"] == [served["rnn"](TEXTS[0])]


def test_more_requests_than_the_queue_holds_get_429_and_late_ones_504(runtime):
    async def use(model):
        bodies = [request(TEXTS[:1]) for _ in range(4)]
        tasks = [answered(body)(model) for body in bodies]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        held = model.in_flight
        while model.in_flight:
            await asyncio.sleep(0.05)
        return errors, held

    errors, held = runtime(use, max_queue=3, max_delay_ms=1500.0, deadline_seconds=0.2)
    assert [error.status for error in errors] == [504, 504, 504, 429]
    assert "no answer within 0.2 seconds" in str(errors[0])
    assert "3 requests are waiting already" in str(errors[3])
    assert held == 3  # they take their places until they are computed


@pytest.mark.parametrize("guilty", [b"bad", b"\xff\xfe"])
def test_a_corrupt_input_fails_alone_though_it_shares_a_batch(tmp_path, guilty):
    """Also where the op's message quotes bytes that are not UTF-8."""
    path = save_picky(tmp_path / "picky" / "1")

    async def use():
        runtime = SavedModelRuntime("picky", "1", path, {**DEFAULTS, "max_delay_ms": 300.0})
        encoded = [base64.b64encode(text).decode() for text in (b"1", guilty, b"2")]
        base64s = {"name": "image_bytes", "parameters": {"content_type": "base64"}}
        bodies = [request([text], **base64s) for text in encoded]
        return await asyncio.gather(
            *(answered(body)(runtime) for body in bodies), return_exceptions=True
        )

    one, bad, two = asyncio.run(use())
    assert (one["text"]["data"], two["score"]["data"]) == (["1.0"], [2.0])
    assert bad.status == 400 and str(bad).startswith("The model refuses this input: ")
    assert not any(word in str(bad) for word in ("Graph execution", "{{node", "[[", ".py"))


def test_a_model_that_fails_is_a_500_that_tells_nothing_and_the_next_is_answered(
    runtime, served, monkeypatch, caplog
):
    async def use(model):
        def fails(signature, inputs, in_batch=False):
            raise tf.errors.InternalError(None, None, "secret of the machine")

        with monkeypatch.context() as patch:
            patch.setattr(model._session, "run", fails)
            with pytest.raises(Refused) as refused:
                await answered(request())(model)
        return refused.value, await answered(request())(model)

    error, outputs = runtime(use)
    assert error.status == 500 and str(error) == "Model 'rnn': the model failed (InternalError)."
    assert "secret of the machine" in caplog.text
    assert texts_of({"text": outputs["text"]["data"]}) == served["rnn"](TEXTS)


def closed_sessions(monkeypatch):
    """A list that grows by each session that is closed."""
    closed, close = [], SavedModelSession.close

    def noted(session):
        close(session)
        closed.append(session)

    monkeypatch.setattr(SavedModelSession, "close", noted)
    return closed


def wait_for(is_so, seconds=30):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_closed_model_ends_once_its_requests_are_answered_and_refuses_others(
    tmp_path, monkeypatch
):
    closed, body = closed_sessions(monkeypatch), request(["-300"], name="image_bytes")

    async def use(model):
        answer = asyncio.ensure_future(answered(body)(model))
        await asyncio.sleep(0)
        model.close()  # while it is computed
        assert model.in_flight == 1 and not closed
        with pytest.raises(Refused, match="this version is not served any more") as refused:
            await answered(body)(model)
        assert refused.value.status == 503
        return (await answer)["text"]["data"]

    model = SavedModelRuntime("m", "1", save_picky(tmp_path / "m" / "1"), DEFAULTS)
    assert asyncio.run(use(model)) == ["-300.0"]
    wait_for(lambda: closed)
    assert closed == [model._session] and model.in_flight == 0


def test_a_closed_model_leaves_no_threads_and_no_answers(tmp_path):
    """Of its queue TensorFlow's eager runtime would keep twenty threads."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("needs Linux's list of threads")
    counts = []
    for turn in range(2):
        path = save_picky(tmp_path / "m" / str(turn), prefix=f"v{turn}:")
        options = {**DEFAULTS, "batch_threads": 20, "max_delay_ms": 5.0 + turn}  # no old queue fits
        model = SavedModelRuntime("m", "1", path, options)
        text = model._run("serving_default", {"image_bytes": [b"1"]})["text"]
        assert text == [b"v%d:1.0" % turn]
        counts.append(len(list(tasks.iterdir())))
        model.close()
        wait_for(lambda most=counts[-1] - 20: len(list(tasks.iterdir())) <= most)
    assert counts[1] < counts[0] + 20


def test_a_model_that_is_closed_by_two_threads_ends_once(tmp_path, monkeypatch):
    closed = closed_sessions(monkeypatch)
    model = SavedModelRuntime("m", "1", save_picky(tmp_path / "m" / "1"), DEFAULTS)
    model._begin()
    threads = [threading.Thread(target=end) for end in (model.close, model._end, model.close)]
    with model._lock:  # each may find that it is the last
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: closed)
    time.sleep(0.1)
    assert closed == [model._session] and model.in_flight == 0


def test_a_model_that_fails_to_warm_up_leaves_nothing(tmp_path, monkeypatch):
    path, closed = save_picky(tmp_path / "m" / "1"), closed_sessions(monkeypatch)
    monkeypatch.setattr(SavedModelRuntime, "_run", None)
    monkeypatch.setattr(warmup, "read", lambda path: [("serving_default", {})])
    with pytest.raises(TypeError):
        SavedModelRuntime("m", "1", path, DEFAULTS)
    wait_for(lambda: closed)


def test_a_request_whose_turn_does_not_come_ends_at_its_deadline(tmp_path):
    path = save_picky(tmp_path / "m" / "1")
    model = SavedModelRuntime("m", "1", path, {**DEFAULTS, "max_batch_size": 1, "batch_threads": 1})
    row = {"image_bytes": [b"1"]}
    with model._turns:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            model._run("serving_default", row, start + 0.2)
        assert 0.15 < time.monotonic() - start < 0.9
    with pytest.raises(TimeoutError):  # late, though it would be its turn
        model._run("serving_default", row, time.monotonic())
    assert model._run("serving_default", row, 1e300)["text"][0] == b"1.0"
    model.close()
