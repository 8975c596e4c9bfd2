"""What tests/demo does once everything is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import requests

from assembler.verify.serving.models import write_repository
from assembler.verify.serving.server import serve
from tests.standin.build import RELEASE, build
from tests.standin.services import engine, push, registry

IMAGE = f"tritonserver:{RELEASE}-onnxruntime-python-cpu"


def work_folder() -> Path:
    """Return where stand-ins are kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "assembler-tests"


def official_registry_answers() -> bool:
    """Tell whether NVIDIA's registry can be reached from here."""
    try:
        return requests.get("https://nvcr.io/v2/", timeout=5).status_code in (200, 401)
    except requests.RequestException:
        return False


def main() -> None:
    """Extract, start, ask; say what is done."""
    with ExitStack() as stack:
        stack.enter_context(engine(work_folder() / "engine"))
        words = ["extract", RELEASE]
        if official_registry_answers():
            print("nvcr.io answers: taking the official image")
        else:
            print("nvcr.io cannot be reached from here: making a stand-in of the official image")
            print("(NVIDIA's real 24.05 server and python backend from PyPI, on Debian packages)")
            standin = build(work_folder() / "standin")
            host = stack.enter_context(registry(work_folder() / "registry"))
            push(standin.full, standin.tag, f"{host}/nvidia/tritonserver:{standin.tag}")
            push(standin.base, "22.04", f"{host}/library/ubuntu:22.04")
            words += ["--mirror", f"nvcr.io={host}", "--mirror", f"docker.io={host}"]
        print("\n$ python -m assembler", *words, flush=True)
        subprocess.run([sys.executable, "-m", "assembler", *words], check=True)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_repository(folder)
        print(f"\nstarting {IMAGE}", flush=True)
        with serve(IMAGE, folder) as server:
            url = f"{server.client.base}/v2/models/ensemble_model/infer"
            body = {"inputs": [{"name": "text_input", "shape": [1, 1], "datatype": "BYTES",
                                "data": ["помогите мне"]}]}  # fmt: skip
            print("POST /v2/models/ensemble_model/infer", body)
            print(requests.post(url, json=body, timeout=60).text)
        print(f"\nIt serves. Yours to use: docker run --rm -p 8000:8000 {IMAGE} tritonserver …")


if __name__ == "__main__":
    main()
