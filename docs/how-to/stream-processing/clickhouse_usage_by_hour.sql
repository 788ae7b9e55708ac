SELECT
    toStartOfHour(e.time) AS hour,
    e.subject AS subject,
    e.model AS model,
    count() AS events,
    sum(e.calls) AS calls,
    sum(e.input_tokens) AS input_tokens,
    sum(e.output_tokens) AS output_tokens,
    sum(e.cache_read_input_tokens) AS cache_read_input_tokens,
    sum(e.total_tokens) AS total_tokens,
    countIf(e.input_tokens IS NULL) AS events_without_input,
    countIf(e.output_tokens IS NULL) AS events_without_output
FROM llm_events AS e FINAL
GROUP BY hour, subject, model;
