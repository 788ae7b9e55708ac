"""Counting a whole call: which way, what is in it, and what holds for any."""

import pytest

from llm_metering.exchange import Counted, Exchange
from llm_metering.tokenizers import count
from llm_metering.tokenizers.models import rules_of
from tests.tokenizers.doubles import Only, Words, answer, chat, user


@pytest.mark.parametrize(
    ("model", "provider", "method"),
    [
        pytest.param("gpt-4o", "openai", "tiktoken:o200k_base", id="gpt-4o"),
        pytest.param("gpt-4o-mini-2024-07-18", "openai", "tiktoken:o200k_base", id="dated"),
        pytest.param("gpt-4.1-nano", None, "tiktoken:o200k_base", id="gpt-4.1"),
        pytest.param("gpt-5.6-sol", "openai", "tiktoken:o200k_base", id="gpt-5"),
        pytest.param("o3", "openai", "tiktoken:o200k_base", id="o3"),
        pytest.param("o4-mini-2025-04-16", "openai", "tiktoken:o200k_base", id="o4-mini"),
        pytest.param("chatgpt-4o-latest", "openai", "tiktoken:o200k_base", id="chatgpt"),
        pytest.param("gpt-4-0613", "openai", "tiktoken:cl100k_base", id="gpt-4"),
        pytest.param("gpt-3.5-turbo", "openai", "tiktoken:cl100k_base", id="gpt-3.5"),
        pytest.param("gpt-35-turbo", "azure.ai.openai", "tiktoken:cl100k_base", id="Azure"),
        pytest.param("text-embedding-3-large", "openai", "tiktoken:cl100k_base", id="embedding"),
        pytest.param("davinci-002", "openai", "tiktoken:cl100k_base", id="davinci-002"),
        pytest.param("text-davinci-003", "openai", "tiktoken:p50k_base", id="text-davinci-003"),
        pytest.param("davinci", "openai", "tiktoken:r50k_base", id="davinci"),
        pytest.param("ft:gpt-4o:acme::x1", "openai", "tiktoken:o200k_base", id="fine-tuned"),
        pytest.param("openai/gpt-4o", "openrouter", "tiktoken:o200k_base", id="prefixed"),
        pytest.param("openai.gpt-5.5", "aws.bedrock", "tiktoken:o200k_base", id="on Bedrock"),
        pytest.param("openai/gpt-oss-120b", "groq", "tiktoken:o200k_harmony", id="gpt-oss"),
        pytest.param(
            "my-deployment", "azure.ai.openai", "ratio:openai:o200k_base", id="deployment"
        ),
        pytest.param("claude-sonnet-4-5", "anthropic", "ratio:claude:o200k_base", id="Claude"),
        pytest.param(
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "aws.bedrock",
            "ratio:claude:o200k_base",
            id="Claude on Bedrock",
        ),
        pytest.param("gemini-2.5-flash", "gcp.gemini", "ratio:gemini:o200k_base", id="Gemini"),
        pytest.param("meta-llama/Llama-3.3-70B", "together", "ratio:llama:cl100k_base", id="Llama"),
        pytest.param(
            "mistral-small-latest", "mistral_ai", "ratio:mistral:o200k_base", id="Mistral"
        ),
        pytest.param("command-r-08-2024", "cohere", "ratio:command:o200k_base", id="Command"),
        pytest.param("deepseek-chat", "deepseek", "ratio:deepseek:o200k_base", id="DeepSeek"),
        pytest.param("qwen3-32b", None, "ratio:qwen:o200k_base", id="Qwen"),
        pytest.param("glm-5.2", "z_ai", "ratio:glm:o200k_base", id="GLM"),
        pytest.param("x-ai/grok-4", "openrouter", "ratio:grok:o200k_base", id="Grok"),
        pytest.param("palmyra-x4", "writer", "ratio:palmyra:o200k_base", id="Palmyra"),
        pytest.param("amazon.titan-text-lite-v1", None, "ratio:titan:o200k_base", id="Titan"),
        pytest.param("us.amazon.nova-lite-v1:0", None, "ratio:nova:o200k_base", id="Nova"),
        pytest.param("snowflake-arctic", "snowflake", "ratio:unknown:o200k_base", id="unknown"),
        pytest.param(None, None, "ratio:unknown:o200k_base", id="no name"),
    ],
)
def test_the_method_says_how(model, provider, method):
    """Exact encodings are named as such, and estimates as what they are."""
    assert rules_of(model, provider).method == method


def test_the_encoding_asked_for_is_the_one_named():
    """What the method names is what the text was encoded with."""
    encodings = Only(Words())

    counted = count(chat(user("one two three"), model="gpt-4"), encodings)

    assert encodings.asked == ["cl100k_base"]
    assert counted.method == "tiktoken:cl100k_base"


def test_without_an_encoding_characters_are_counted():
    """The frame stays, and the method says that no encoding was at hand."""
    counted = count(chat(user("a" * 400)), Only(None))

    assert counted.method == "characters"
    assert counted.input_tokens == 3 + 1 + 100 + 3


def test_a_text_is_encoded_once():
    """All of an answer's text in one go: tokens do not end where pieces do."""
    words = Words()

    count(answer("one two three four"), Only(words))

    assert words.texts.count("one two three four") == 1


def test_nothing_came_out():
    """An empty answer is a count of none, not of what would have ended it."""
    assert count(answer("", tool_calls=[("", "")]), Only(Words())).output_tokens == 0


def test_no_request_no_input(encodings):
    """Where the request was not seen, the input is unknown; the output is not."""
    assert count(answer("hello"), encodings) == Counted(
        output_tokens=1, method="tiktoken:o200k_base"
    )


def test_a_request_of_nothing_we_know(encodings):
    """A request without anything to read has no count, which is not zero."""
    assert count(Exchange(model="gpt-4o", request={"audio": "…"}), encodings).input_tokens is None


@pytest.mark.parametrize(
    ("model", "reasoning"),
    [
        pytest.param("gpt-5", 2, id="a summary"),
        pytest.param("gpt-oss-20b", 2 + 6, id="all of it, and its frame"),
        pytest.param("claude-sonnet-4-5", round(2 * 1.15 + 2), id="estimated"),
    ],
)
def test_shown_reasoning_is_a_part_of_the_output(encodings, model, reasoning):
    """It is counted once, as a part."""
    bare = count(answer("hello", model=model), encodings)

    counted = count(answer("hello", model=model, reasoning=["hello world"]), encodings)

    assert counted.reasoning_output_tokens == reasoning
    assert counted.output_tokens == bare.output_tokens + reasoning


def test_several_choices_each_have_an_end(encodings):
    """What ends an answer is counted with each."""
    one = count(answer("hello", model="claude-3-haiku"), encodings)
    two = count(answer("hello", "hello", model="claude-3-haiku"), encodings)

    assert abs(two.output_tokens - 2 * one.output_tokens) <= 1


@pytest.mark.parametrize(
    ("rest", "missing"),
    [
        pytest.param(
            {"previous_response_id": "r1"}, "earlier_turns", id="stored with the provider"
        ),
        pytest.param({"tools": [{"type": "web_search"}]}, "hosted_tools", id="the provider's tool"),
        pytest.param(
            {"tools": [{"type": "web_search"}], "previous_response_id": "r1"},
            "earlier_turns+hosted_tools",
            id="both",
        ),
    ],
)
def test_what_could_not_be_counted_is_said(encodings, rest, missing):
    """An input of which a part is not in the request is labelled with that part."""
    counted = count(chat(user("hello"), **rest), encodings)

    assert counted.method == f"tiktoken:o200k_base;without:{missing}"


@pytest.mark.parametrize(
    ("model", "choice", "prompt"),
    [
        # Claude's page "Tool use", July 2026.
        pytest.param("claude-sonnet-4-5", {"type": "auto"}, 496, id="Sonnet 4.5"),
        pytest.param("claude-sonnet-4-5", {"type": "any"}, 588, id="Sonnet 4.5, must"),
        pytest.param("anthropic/claude-4.6-sonnet", {"type": "auto"}, 497, id="Sonnet 4.6"),
        pytest.param("claude-opus-4-8", {"type": "tool", "name": "f"}, 410, id="Opus 4.8, must"),
        pytest.param("claude-3-5-haiku-20241022", {"type": "auto"}, 264, id="Haiku 3.5"),
        pytest.param("claude-opus-4-20250514", {"type": "auto"}, 313, id="Opus 4"),
    ],
)
def test_tools_of_claude_come_with_a_prompt(model, choice, prompt):
    """Anthropic documents how many tokens it writes about tools, for each model."""
    tools = [{"name": "", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]
    bare = count(chat(user("hello"), model=model), Only(Words()))

    offered = count(
        chat(user("hello"), model=model, tools=tools, tool_choice=choice), Only(Words())
    )

    assert offered.input_tokens - bare.input_tokens == prompt


def test_digits_are_tokens_for_some(encodings):
    """A family that splits numbers counts each digit."""
    gemini = count(answer("1234567", model="gemini-2.0-flash"), encodings)
    claude = count(answer("1234567", model="gpt-4o"), encodings)

    assert (gemini.output_tokens, claude.output_tokens) == (7, 3)


def test_reasoning_of_earlier_turns_is_not_read_again(encodings):
    """Chat templates leave out what servers show as `<think>`; some keep it."""
    thought = {"role": "assistant", "content": "<think>" + "word " * 50 + "</think>hello"}
    plain = {"role": "assistant", "content": "hello"}

    def of(model, message):
        return count(chat(user("hello"), message, model=model), encodings).input_tokens

    assert of("qwen3-32b", thought) == of("qwen3-32b", plain)
    assert of("glm-5.2", thought) > of("glm-5.2", plain) + 40


def test_a_schema_that_refers_to_itself_ends():
    """References that multiply with each step cost a bounded amount of work."""
    definitions = {
        f"D{i}": {
            "type": "object",
            "properties": {
                side: {"$ref": f"#/$defs/D{i + 1}"} for side in ("left", "middle", "right")
            },
        }
        for i in range(60)
    }
    definitions["D60"] = {"$ref": "#/$defs/D0"}
    parameters = {"$defs": definitions, "properties": {"tree": {"$ref": "#/$defs/D0"}}}
    words = Words()

    count(
        chat(user("hello"), tools=[{"name": "f", "parameters": parameters}]),
        Only(words),
    )

    assert sum(map(len, words.texts)) < 300_000
