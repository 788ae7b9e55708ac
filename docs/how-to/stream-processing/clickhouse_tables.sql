CREATE TABLE llm_events_queue (event String)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'kafka:9092',
    kafka_topic_list = 'llm-usage',
    kafka_group_name = 'llm-usage-by-hour',
    kafka_format = 'JSONAsString';

CREATE TABLE llm_events (
    source String,
    id String,
    subject String,
    time DateTime64(3, 'UTC'),
    model String,
    calls Nullable(UInt64),
    input_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64),
    cache_read_input_tokens Nullable(UInt64),
    total_tokens Nullable(UInt64)
)
ENGINE = ReplacingMergeTree
ORDER BY (source, id);

CREATE MATERIALIZED VIEW llm_events_from_queue TO llm_events AS
SELECT
    JSONExtractString(event, 'source') AS source,
    JSONExtractString(event, 'id') AS id,
    JSONExtractString(event, 'subject') AS subject,
    parseDateTime64BestEffort(JSONExtractString(event, 'time'), 3, 'UTC') AS time,
    JSONExtractString(event, 'data', 'model') AS model,
    JSONExtract(event, 'data', 'calls', 'Nullable(UInt64)') AS calls,
    JSONExtract(event, 'data', 'input_tokens', 'Nullable(UInt64)') AS input_tokens,
    JSONExtract(event, 'data', 'output_tokens', 'Nullable(UInt64)') AS output_tokens,
    JSONExtract(event, 'data', 'cache_read_input_tokens', 'Nullable(UInt64)') AS cache_read_input_tokens,
    JSONExtract(event, 'data', 'total_tokens', 'Nullable(UInt64)') AS total_tokens
FROM llm_events_queue
WHERE JSONExtractString(event, 'type') = 'llm.usage';
