"""The fake provider, through the providers' own SDKs: what it sent is what stands in its books."""

from __future__ import annotations

import anthropic
import google.genai
import httpx
import openai
import pytest

from tests.provider.client import Totals

MESSAGES = [{"role": "user", "content": "hello [call:a1] [subject:acme]"}]
TOOL = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"in": {"type": "string"}}},
}


@pytest.fixture
def client(provider):
    """OpenAI's client."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=1) as client:
        yield client


@pytest.fixture
def claude(provider):
    """Anthropic's client."""
    with anthropic.Anthropic(base_url=provider.url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def gemini(provider):
    """Google's client."""
    options = google.genai.types.HttpOptions(base_url=provider.url)
    with google.genai.Client(api_key="x", http_options=options) as client:
        yield client


@pytest.fixture
def post(provider):
    """Plain HTTP."""
    return lambda path, body: httpx.post(provider.url + path, json=body, trust_env=False)


def test_it_cannot_have_our_numbers(provider):
    """Its process imports nothing of ours and no SDK: it could not if it wanted to."""
    foreign = {"llm_metering", "openai", "anthropic", "google", "httpx", "pydantic", "langchain"}

    assert foreign.isdisjoint(provider.modules())


def test_no_two_requests_are_answered_alike(provider, client):
    """Each has numbers of its own, so that mixing two up is seen."""
    usages = [
        client.chat.completions.create(model="gpt-x", messages=MESSAGES).usage for _ in range(20)
    ]

    assert len({usage.prompt_tokens for usage in usages}) == 20
    assert len({usage.completion_tokens for usage in usages}) == 20
    assert provider.totals.input == sum(usage.prompt_tokens for usage in usages)
    assert provider.totals.output == sum(usage.completion_tokens for usage in usages)


def test_the_books_name_the_call(provider, client):
    """By the marks in the prompt and by OpenAI's `user`."""
    client.chat.completions.create(model="gpt-x+flex", messages=MESSAGES, user="u7")

    entry = provider.entry
    assert (entry.call, entry.subject, entry.user) == ("a1", "acme", "u7")
    assert (entry.model, entry.shape, entry.status) == ("gpt-x+flex", "openai.chat", 200)


def chat(client, model, **more):
    answer = client.chat.completions.create(model=model, messages=MESSAGES, **more)
    usage = answer.usage
    return (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens_details.cached_tokens,
        usage.completion_tokens_details.reasoning_tokens,
        "".join(choice.message.content for choice in answer.choices),
    )


def chat_stream(client, model, **more):
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            **more,
        )
    )
    usage = chunks[-1].usage
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens_details.cached_tokens,
        usage.completion_tokens_details.reasoning_tokens,
        text,
    )


def responses(client, model):
    answer = client.responses.create(model=model, input=MESSAGES)
    return (*of_response(answer), answer.output_text)


def responses_stream(client, model):
    events = list(client.responses.create(model=model, input=MESSAGES, stream=True))
    text = "".join(each.delta for each in events if each.type == "response.output_text.delta")
    return (*of_response(events[-1].response), text)


def of_response(answer):
    usage = answer.usage
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(chat, id="chat"),
        pytest.param(chat_stream, id="chat stream"),
        pytest.param(lambda c, m: chat(c, m, n=3), id="chat n=3"),
        pytest.param(lambda c, m: chat_stream(c, m, n=3), id="chat stream n=3"),
        pytest.param(responses, id="responses"),
        pytest.param(responses_stream, id="responses stream"),
    ],
)
@pytest.mark.parametrize("model", ["gpt-x", "gpt-x+flex+length+pieces20+slow2"])
def test_openai(ask, model, provider, client):
    """Chat completions and responses tell the numbers of the books, and all of the text."""
    read, generated, cached, reasoning, text = ask(client, model)

    entry = provider.entry
    assert (entry.input, entry.output, entry.cached, entry.reasoning) == (
        *(read, generated),
        *(cached, reasoning),
    )
    assert entry.text_bytes == len(text) > 20
    assert (entry.usage_sent, entry.left) == (True, False)


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
def test_openais_older_completions(streamed, provider, client):
    """Two prompts are one request, whose usage comes last in a stream."""
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    answer = client.completions.create(model="gpt-x", prompt=["a", "b"], **options)
    chunks = list(answer) if streamed else [answer]

    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (
        provider.entry.input,
        provider.entry.output,
    )
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}


def test_openais_embeddings(provider, client):
    """One vector a text, in the form the SDK asks for, and the tokens of the input."""
    answer = client.embeddings.create(model="embed-x", input=["a", "b"])

    assert [each.embedding[:2] for each in answer.data] == [[0.25, 0.5]] * 2
    assert (answer.usage.prompt_tokens, 0) == (provider.entry.input, provider.entry.output)


@pytest.mark.parametrize("model", ["claude-x", "claude-x+cache"])
@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
def test_anthropic(streamed, model, provider, claude):
    """Cached tokens, read and written, come beside the input."""
    asked = {"model": model, "max_tokens": 9, "messages": MESSAGES}
    if streamed:
        with claude.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = claude.messages.create(**asked)

    entry, usage = provider.entry, message.usage
    read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    assert (usage.input_tokens + read + written, usage.output_tokens) == (entry.input, entry.output)
    assert (read, written) == (entry.cached, entry.written)
    assert entry.text_bytes == len(message.content[0].text)
    assert bool(entry.written) == ("cache" in model)


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
def test_gemini(streamed, provider, gemini):
    """Thoughts come beside the candidates' tokens; the last chunk has the whole."""
    asked = {"model": "gemini-x", "contents": "hello"}
    if streamed:
        answer = list(gemini.models.generate_content_stream(**asked))[-1]
    else:
        answer = gemini.models.generate_content(**asked)

    entry, usage = provider.entry, answer.usage_metadata
    assert usage.prompt_token_count == entry.input
    assert usage.candidates_token_count + usage.thoughts_token_count == entry.output
    assert (usage.total_token_count, usage.cached_content_token_count) == (
        entry.input + entry.output,
        entry.cached,
    )


def test_geminis_embeddings(provider, gemini):
    """They have no usage, as Gemini's have none; the books have it."""
    answer = gemini.models.embed_content(model="embed-x", contents=["a", "b"])

    assert len(answer.embeddings) == 2
    assert provider.entry.input > 0


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
def test_ollama(streamed, provider, post):
    """Lines of JSON, the counts in the last; streamed unless it is told not to."""
    answer = post("/api/chat", {"model": "llama", "messages": MESSAGES, "stream": streamed})
    lines = answer.text.splitlines()

    last = httpx.Response(200, text=lines[-1]).json()
    assert (len(lines) > 1) == streamed
    assert (last["prompt_eval_count"], last["eval_count"]) == (
        provider.entry.input,
        provider.entry.output,
    )


def test_ollama_embeds(provider, post):
    """One vector a text."""
    answer = post("/api/embed", {"model": "llama", "input": ["a", "b"]}).json()

    assert len(answer["embeddings"]) == 2
    assert answer["prompt_eval_count"] == provider.entry.input


def test_tools(provider, client, claude):
    """The first tool is called with arguments that fit it; after its result there is an answer."""
    tools = [{"type": "function", "function": TOOL}]
    called = client.chat.completions.create(model="gpt-x+tools", messages=MESSAGES, tools=tools)
    call = called.choices[0].message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
    done = client.chat.completions.create(
        model="gpt-x+tools", messages=[*MESSAGES, called.choices[0].message, result], tools=tools
    )
    used = claude.messages.create(
        model="claude-x+tools",
        max_tokens=9,
        messages=MESSAGES,
        tools=[{"name": "weather", "input_schema": TOOL["parameters"]}],
    )

    assert (call.function.name, call.function.arguments) == ("weather", '{"in": "x"}')
    assert done.choices[0].message.content
    assert used.content[0].input == {"in": "x"}
    assert len(provider.entries) == 3


def test_a_refusal_costs_nothing(provider, client):
    """With the status that was asked for."""
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="gpt-x+refuse401", messages=MESSAGES)

    assert (provider.entry.status, provider.totals) == (401, Totals())


def test_refused_once(provider, client):
    """The SDK tries again: two requests, one of them paid for."""
    answer = client.chat.completions.create(model="gpt-x+429once", messages=MESSAGES)

    assert [entry.status for entry in provider.entries] == [429, 200]
    assert provider.totals.input == answer.usage.prompt_tokens


@pytest.mark.parametrize("how", ["die2", "errmid2"])
def test_a_stream_that_breaks(how, provider, client):
    """Two pieces were paid for, and no usage was told."""
    stream = client.chat.completions.create(model=f"gpt-x+{how}", messages=MESSAGES, stream=True)
    with pytest.raises((openai.APIError, httpx.HTTPError, openai.APIConnectionError)):
        list(stream)

    entry = provider.entry
    assert (entry.pieces, entry.usage_sent, entry.left) == (2, False, False)
    assert entry.output > 0


def test_a_client_that_leaves(provider, client):
    """What was generated by then stands in the books."""
    stream = client.chat.completions.create(model="gpt-x+hang2", messages=MESSAGES, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            stream.close()
            break

    entry = provider.entry
    assert (entry.left, entry.usage_sent) == (True, False)
    assert 1 <= entry.pieces <= 2


@pytest.mark.parametrize(
    ("trait", "expected"),
    [
        pytest.param("negative", lambda e: (e.input, -e.output), id="negative"),
        pytest.param("nonint", lambda e: (e.input, e.output + 0.5), id="no whole number"),
        pytest.param("text", lambda e: (str(e.input), e.output), id="text"),
        pytest.param("half", lambda e: (None, e.output), id="half"),
        pytest.param("xai", lambda e: (e.input, e.output - e.reasoning), id="xai"),
    ],
)
def test_numbers_that_cannot_be(trait, expected, provider, post):
    """The client is told nonsense; the books have the truth."""
    asked = {"model": f"gpt-x+{trait}", "messages": MESSAGES}
    usage = post("/v1/chat/completions", asked).json()["usage"]

    told = (usage.get("prompt_tokens"), usage["completion_tokens"])
    assert told == expected(provider.entry)


@pytest.mark.parametrize("trait", ["cumulative", "usageinfinish"])
def test_usage_that_comes_twice(trait, provider, client):
    """The last one is right; the sum is not."""
    chunks = list(
        client.chat.completions.create(
            model=f"gpt-x+{trait}",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) > 1
    assert usages[-1].completion_tokens == provider.entry.output
    assert sum(usage.prompt_tokens for usage in usages) > provider.entry.input


def test_coheres_embeddings(provider, post):
    """The tokens stand in the units that are billed."""
    answer = post("/v1/embed", {"model": "embed-x", "texts": ["a", "b"]}).json()

    entry = provider.entry
    assert answer["meta"]["billed_units"] == {"input_tokens": entry.input}
    assert len(answer["embeddings"]["float"]) == 2
    assert (entry.output, entry.model) == (0, "embed-x")


@pytest.mark.parametrize("model", ["amazon.titan-embed-x", "amazon.titan-text-x"])
def test_bedrocks_models(model, provider, post):
    """The headers say the same as the body, and as the books."""
    answer = post(f"/model/{model}/invoke", {"inputText": "a"})

    entry = provider.entry
    said, headers = answer.json(), answer.headers
    assert said["inputTextTokenCount"] == entry.input
    if "embed" in model:
        assert int(headers["x-amzn-bedrock-input-token-count"]) == said["inputTextTokenCount"]
        assert (entry.output, len(said["embedding"])) == (0, 3)
    else:
        assert int(headers["x-amzn-bedrock-output-token-count"]) == entry.output > 0
        assert said["results"][0]["tokenCount"] == entry.output


def test_sagemakers_endpoints(provider, post):
    """They say nothing of tokens; the books know."""
    answer = post("/endpoints/mine/invocations", {"inputs": "a"}).json()

    assert answer[0]["generated_text"]
    assert (provider.entry.model, provider.entry.usage_sent) == ("mine", False)
    assert provider.entry.output > 0
