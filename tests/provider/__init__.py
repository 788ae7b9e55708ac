"""A provider of language models that generates nothing, and keeps books of what it sent.

It runs as a process of its own, and imports nothing but the standard library: what it says of a
call it cannot have from the meter, nor from an SDK. `server` reads requests and writes answers,
one module per API holds its shape, `calls` decides the numbers and the text of an answer, and
`ledger` holds the books. Tests reach it with the fixture `provider` (`fixtures`, `client`).

What it does with a request stands behind the name of the model, `gpt-x+slow+length`:

| behaviour | what happens |
|---|---|
| `+pieces20` | the answer has so many pieces instead of 5 to 8 |
| `+slow`, `+slow50` | so many milliseconds (10) before each piece |
| `+hang`, `+hang2` | after so many pieces (3) nothing more comes, until the client leaves |
| `+die`, `+die2` | after so many pieces the connection ends, in the middle of the answer |
| `+cut` | an answer that comes at once ends in its middle |
| `+errmid`, `+errmid2` | after so many pieces the stream says that there was an error, and ends |
| `+errusage` | an error carries the usage up to then, as OpenRouter's do |
| `+refuse429` | refused with that status |
| `+429once` | refused with 429 the first time, and answered the second |
| `+length` | the answer ends for want of tokens, `+filter` for what it says |
| `+tools` | the first tool offered is called once, then there is an answer |
| `+flex`, `+priority` | the service tier of the answer |
| `+cache` | tokens were written to the prompt cache as well |
| `+nousage` | usage is never told |
| `+half` | of the usage the count of the prompt is missing |
| `+negative`, `+nonint`, `+text`, `+contradict` | numbers that cannot be |
| `+float` | whole numbers as floats |
| `+cumulative` | OpenAI: each chunk of a stream carries the usage up to it |
| `+usageinfinish` | OpenAI: the finishing chunk carries the usage, and the trailing one again |
| `+unasked` | OpenAI: a stream's finishing chunk carries the usage, asked for or not |
| `+xai` | OpenAI: reasoning is no part of the completion tokens, only of the total |
| `+groq` | OpenAI: a stream's usage is in `x_groq` of the finishing chunk |
| `+failed` | Responses: the response fails, with its usage |
| `+oldapi` | Anthropic: `message_delta` tells the output only |
| `+twodeltas` | Anthropic: two `message_delta`, each with the counts up to it |
| `+shrinking`, `+shrinkingN` | Gemini: the counts of the prompt are larger by 30, or N, until a stream's last chunk |
| `+toolprompt` | Gemini: tokens of a tool's results beside the prompt's |
| `+guardrail` | Bedrock: a guardrail intervened |
| `+noheaders` | Bedrock: the counts stand in the body alone |
| `+nocache` | Ollama: no `prompt_eval_count`, as for a prompt that is in its cache |

`[call:abc]` and `[subject:acme]` anywhere in a request name it in the books, as do OpenAI's `user`
and its like.
"""
