-- The ledger: every event once, and sums of them by time that are exact at every commit.
-- Times are microseconds since 1970-01-01T00:00:00Z. Plain SQL of SQLite 3.24 (UPSERT).

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- The lowest schema version (PRAGMA user_version of the library's own schema) that may write
-- here. A version that only adds what older libraries can ignore leaves it as it is.
INSERT INTO meta (key, value) VALUES ('oldest_writer', 1);

CREATE TABLE events (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    time INTEGER NOT NULL,
    provider TEXT,
    model TEXT,
    operation TEXT,
    framework TEXT,
    provenance TEXT,
    status TEXT,
    -- NULL is a count that nobody knows, which is not 0.
    total_tokens INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    calls INTEGER,
    -- The CloudEvent as it was delivered.
    payload TEXT NOT NULL,
    UNIQUE (source, id)
);

CREATE INDEX events_by_subject ON events (subject, time);

-- Sums over windows of 15 minutes (grain 900, in seconds), of which every time zone's hours and
-- days are made, and over UTC days (grain 86400). '' stands for a value that an event lacked.
CREATE TABLE rollups (
    grain INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    provenance TEXT NOT NULL,
    status TEXT NOT NULL,
    total_tokens INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_input_tokens INTEGER NOT NULL,
    reasoning_output_tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    events INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    PRIMARY KEY (grain, subject, window_start, type, provider, model, provenance, status)
) WITHOUT ROWID;

CREATE INDEX rollups_by_time ON rollups (grain, window_start);

-- A trigger, so that an event which is already there cannot be counted again: for it nothing is
-- inserted, and nothing fires. Insert with ON CONFLICT (source, id) DO NOTHING, which passes over
-- that one conflict. INSERT OR REPLACE would count again; INSERT OR IGNORE would hide any other
-- failure too, and reach into this trigger (https://www.sqlite.org/lang_createtrigger.html).
CREATE TRIGGER events_are_summed AFTER INSERT ON events
BEGIN
    INSERT INTO rollups (
        grain, window_start,
        type, subject, provider, model, provenance, status,
        total_tokens, input_tokens, output_tokens,
        cache_read_input_tokens, reasoning_output_tokens, calls,
        events, first_time, last_time
    )
    SELECT
        grain, NEW.time - NEW.time % (grain * 1000000),
        NEW.type, NEW.subject, ifnull(NEW.provider, ''), ifnull(NEW.model, ''),
        ifnull(NEW.provenance, ''), ifnull(NEW.status, ''),
        ifnull(NEW.total_tokens, 0), ifnull(NEW.input_tokens, 0), ifnull(NEW.output_tokens, 0),
        ifnull(NEW.cache_read_input_tokens, 0), ifnull(NEW.reasoning_output_tokens, 0),
        ifnull(NEW.calls, 0),
        1, NEW.time, NEW.time
    FROM (SELECT 900 AS grain UNION ALL SELECT 86400)
    WHERE true  -- else SQLite reads the next ON as that of a join
    ON CONFLICT (grain, subject, window_start, type, provider, model, provenance, status)
    DO UPDATE SET
        total_tokens = total_tokens + excluded.total_tokens,
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens,
        cache_read_input_tokens = cache_read_input_tokens + excluded.cache_read_input_tokens,
        reasoning_output_tokens = reasoning_output_tokens + excluded.reasoning_output_tokens,
        calls = calls + excluded.calls,
        events = events + 1,
        first_time = min(first_time, excluded.first_time),
        last_time = max(last_time, excluded.last_time);
END;

-- How far a partition of a topic was read. It moves in the transaction that takes the events in, so
-- that neither can be there without the other.
CREATE TABLE ingest_positions (
    cluster TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    -- The last record that was read, to be known again: a topic that was deleted and made anew has
    -- another one there. NULL before the first.
    last_offset INTEGER,
    last_digest BLOB,
    -- What became of all that was ever read, or should have been.
    taken INTEGER NOT NULL,
    repeated INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    PRIMARY KEY (cluster, topic, partition)
) WITHOUT ROWID;

-- Offsets that were passed over: of records that are no events ('refused'), or that were deleted
-- before they were read ('lost'), or of a topic that was made anew ('anew'), of which nobody knows
-- whether and how many records there were (NULL).
CREATE TABLE ingest_omissions (
    kind TEXT NOT NULL,
    cluster TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    next_offset INTEGER,
    -- At most so many: the broker's own marks have offsets too.
    records INTEGER,
    reason TEXT NOT NULL,
    -- When the last of them was seen.
    time INTEGER NOT NULL
);

CREATE INDEX ingest_omissions_by_end ON ingest_omissions (cluster, topic, partition, next_offset);

PRAGMA user_version = 2;
