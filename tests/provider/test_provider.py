"""The fake provider, through the providers' own SDKs: what it sent is what stands in its books."""

from __future__ import annotations

import httpx
import pytest

MESSAGES = [{"role": "user", "content": "hello [call:a1] [subject:acme]"}]


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


def test_cohere_reranks(provider, post):
    """By the search unit: there are no tokens, in the answer or in the books."""
    asked = {"model": "rerank-x", "query": "?", "documents": ["a", "b", "c"], "top_n": 2}
    answer = post("/v2/rerank", asked).json()

    assert [each["index"] for each in answer["results"]] == [2, 1]
    entry = provider.entry
    assert answer["meta"]["billed_units"] == {"search_units": entry.search_units}
    assert (entry.shape, entry.input, entry.output) == ("cohere.rerank", 0, 0)
    assert entry.usage_sent


def test_cohere_embeds(provider, post):
    """By its older way and its newer one."""
    for path in ("/v1/embed", "/v2/embed"):
        answer = post(path, {"model": "embed-x", "texts": ["a", "b"]}).json()

        assert answer["meta"]["billed_units"]["input_tokens"] == provider.entries[-1].input
        assert len(answer["embeddings"]["float"]) == 2
