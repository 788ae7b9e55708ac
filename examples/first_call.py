"""One metered call against any server that speaks OpenAI's API.

    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none-needed python examples/first_call.py

Without OPENAI_BASE_URL it calls OpenAI itself, with the key in OPENAI_API_KEY. MODEL names the
model. What was used then stands in the ledger: `llm-metering usage` shows it again.
"""

from __future__ import annotations

import os

from langchain_openai import ChatOpenAI

import llm_metering
from llm_metering.langchain import MeteringHandler

llm = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5-mini"), max_tokens=64)
answer = llm.invoke(
    "Name three colours.", config={"callbacks": [MeteringHandler("customer-42", feature="demo")]}
)
print(answer.content)

llm_metering.flush()
for row in llm_metering.usage(group_by=["subject"]):
    print(f"{row.subject}: {row.value} tokens")
