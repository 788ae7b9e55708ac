-- Usage by hour, subject and model, each event once, from the topic of a Kafka sink.

-- Hours are those of UTC, whatever zone the cluster is in.
SET 'table.local-time-zone' = 'UTC';

-- How long an event is remembered. One that comes again later than this is counted twice.
SET 'table.exec.state.ttl' = '90 d';

CREATE TABLE llm_events (
    `source` STRING,
    `id` STRING,
    `type` STRING,
    `subject` STRING,
    `time` TIMESTAMP_LTZ(3),
    `data` ROW<
        `model` STRING,
        `calls` BIGINT,
        `input_tokens` BIGINT,
        `output_tokens` BIGINT,
        `cache_read_input_tokens` BIGINT,
        `total_tokens` BIGINT
    >,
    `read_at` AS PROCTIME()
) WITH (
    'connector' = 'kafka',
    'properties.bootstrap.servers' = 'kafka:9092',
    'properties.group.id' = 'llm-usage-by-hour',
    'topic' = 'llm-usage',
    'scan.startup.mode' = 'earliest-offset',
    'format' = 'json',
    'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE VIEW llm_events_once AS
SELECT
    FLOOR(`time` TO HOUR) AS `hour`,
    `subject`,
    -- A key is never NULL: '' is a call of which nobody knows the model.
    COALESCE(`data`.`model`, '') AS `model`,
    `data`.`calls` AS `calls`,
    `data`.`input_tokens` AS `input_tokens`,
    `data`.`output_tokens` AS `output_tokens`,
    `data`.`cache_read_input_tokens` AS `cache_read_input_tokens`,
    `data`.`total_tokens` AS `total_tokens`
FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY `source`, `id` ORDER BY `read_at`) AS `nth`
    FROM llm_events
    WHERE `type` = 'llm.usage'
)
WHERE `nth` = 1;

CREATE TABLE llm_usage_by_hour (
    `hour` TIMESTAMP_LTZ(3),
    `subject` STRING,
    `model` STRING,
    `events` BIGINT,
    `calls` BIGINT,
    `input_tokens` BIGINT,
    `output_tokens` BIGINT,
    `cache_read_input_tokens` BIGINT,
    `total_tokens` BIGINT,
    `events_without_input` BIGINT,
    `events_without_output` BIGINT,
    PRIMARY KEY (`hour`, `subject`, `model`) NOT ENFORCED
) WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'kafka:9092',
    'topic' = 'llm-usage-by-hour',
    'key.format' = 'json',
    'key.json.timestamp-format.standard' = 'ISO-8601',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

INSERT INTO llm_usage_by_hour
-- An hour's sum is never forgotten: a late event adds to it, and does not begin it anew.
SELECT /*+ STATE_TTL('llm_events_once' = '0 d') */
    `hour`,
    `subject`,
    `model`,
    COUNT(*),
    SUM(`calls`),
    SUM(`input_tokens`),
    SUM(`output_tokens`),
    SUM(`cache_read_input_tokens`),
    SUM(`total_tokens`),
    -- What a SUM knows nothing of: NULL is a count that nobody knows, not 0.
    COUNT(*) - COUNT(`input_tokens`),
    COUNT(*) - COUNT(`output_tokens`)
FROM llm_events_once
GROUP BY `hour`, `subject`, `model`;
