CREATE TABLE llm_usage_by_hour (
    `hour` TIMESTAMP(3),
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
    'connector' = 'jdbc',
    'url' = 'jdbc:postgresql://postgres:5432/postgres',
    'username' = 'billing',
    'password' = 'its password',
    'table-name' = 'llm_usage_by_hour'
);
