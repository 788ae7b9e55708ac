"""A random language model of half a megabyte, for tests against the real server.

Its answers are gibberish of ASCII letters, one letter a token, and never end by themselves: a
request's token limit, a stop string or the context ends them. It is a llama of
two layers in llama.cpp's own file format
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), written with the `gguf` package.

    python -m tests.tiny_model tiny.gguf
"""

from __future__ import annotations

import string
import sys
from pathlib import Path

import gguf
import numpy as np

__all__ = ["write_tiny_model"]

SEED = 20_261_121
CONTEXT = 8192
WIDTH = 64
HEADS = 4
HIDDEN = 128
LAYERS = 2

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
SPECIAL = [UNKNOWN, BEGIN, END, TURN_START, TURN_END]
SPACE = "\u2581"  # what this kind of tokenizer turns a space into

_LETTERS = frozenset(f"<0x{byte:02X}>" for byte in string.ascii_letters.encode())

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_tiny_model(path: Path) -> Path:
    """Write the model to `path`, the same bytes each time, and return the path."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_shape(writer)
    vocabulary = _write_vocabulary(writer)
    _write_weights(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _write_vocabulary(writer: gguf.GGUFWriter) -> list[str]:
    """Every byte is a token, and no two of them merge, so one ASCII character is one token."""
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), SPACE]
    kinds = [gguf.TokenType.UNKNOWN]
    kinds += [gguf.TokenType.CONTROL] * (len(SPECIAL) - 1)
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(tokens.index(UNKNOWN))
    writer.add_bos_token_id(tokens.index(BEGIN))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_eot_token_id(tokens.index(TURN_END))
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    return tokens


def _write_weights(writer: gguf.GGUFWriter, vocabulary: list[str]) -> None:
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)

    size = len(vocabulary)
    writer.add_tensor("token_embd.weight", matrix(size, WIDTH) * np.float32(8))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    # Tokens that are no letters get an all-zero row: the largest of the 52 other scores is all
    # but surely above 0. So half a UTF-8 character never holds back a streamed piece, no answer
    # looks like a tool call, and none ends early.
    output = matrix(size, WIDTH) * np.float32(4)
    output[[token not in _LETTERS for token in vocabulary]] = 0
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        prefix = f"blk.{layer}"
        writer.add_tensor(f"{prefix}.attn_norm.weight", np.ones(WIDTH, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{prefix}.{name}.weight", matrix(WIDTH, WIDTH))
        writer.add_tensor(f"{prefix}.ffn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{prefix}.ffn_gate.weight", matrix(HIDDEN, WIDTH))
        writer.add_tensor(f"{prefix}.ffn_up.weight", matrix(HIDDEN, WIDTH))
        writer.add_tensor(f"{prefix}.ffn_down.weight", matrix(WIDTH, HIDDEN))


if __name__ == "__main__":
    write_tiny_model(Path(sys.argv[1]))
