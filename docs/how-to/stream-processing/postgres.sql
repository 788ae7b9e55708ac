CREATE TABLE llm_usage_by_hour (
    hour timestamp(3) NOT NULL, -- of UTC
    subject text NOT NULL,
    model text NOT NULL,
    events bigint NOT NULL,
    calls bigint,
    input_tokens bigint,
    output_tokens bigint,
    cache_read_input_tokens bigint,
    total_tokens bigint,
    events_without_input bigint NOT NULL,
    events_without_output bigint NOT NULL,
    PRIMARY KEY (hour, subject, model)
);
