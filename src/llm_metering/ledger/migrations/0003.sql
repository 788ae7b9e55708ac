-- Rollups that are written in batches, of what is recent: see schema.sql for the reasons. Older
-- libraries may go on writing and reading: what they insert becomes recent, and what they read is a
-- view. Whatever they read and write meanwhile waits for this, which reads every event.

DROP TRIGGER events_are_summed;
-- They have 0 where nobody knows a count. All is counted anew from the events.
DROP TABLE rollups;
DROP INDEX events_by_subject;

-- Events that are in no rollup yet. They stand side by side in the order in which they came, so that
-- taking an event in writes few pages, however many subjects there are: a rollup of each event at
-- once would write as many pages as a batch has subjects, several times over. It has no index: what
-- there is at most is read in two milliseconds, and an index would cost a tenth of each event.
CREATE TABLE recent (
    -- The event's rowid.
    place INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    -- '' stands for a value that the event lacked, since a key cannot be NULL.
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    provenance TEXT NOT NULL,
    status TEXT NOT NULL,
    total_tokens INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    calls INTEGER
);

-- A trigger, so that an event which is already there cannot be counted again: for it nothing is
-- inserted, and nothing fires; and so that what an older library inserts is counted as well. Insert
-- with ON CONFLICT (source, id) DO NOTHING, which passes over that one conflict. INSERT OR REPLACE
-- would count again; INSERT OR IGNORE would hide any other failure too, and reach into this trigger
-- (https://www.sqlite.org/lang_createtrigger.html).
CREATE TRIGGER events_are_recent AFTER INSERT ON events
BEGIN
    INSERT INTO recent (
        place, time,
        type, subject, provider, model, provenance, status,
        total_tokens, input_tokens, output_tokens,
        cache_read_input_tokens, cache_creation_input_tokens, reasoning_output_tokens, calls
    )
    VALUES (
        NEW.rowid, NEW.time,
        NEW.type, NEW.subject, ifnull(NEW.provider, ''), ifnull(NEW.model, ''),
        ifnull(NEW.provenance, ''), ifnull(NEW.status, ''),
        NEW.total_tokens, NEW.input_tokens, NEW.output_tokens,
        NEW.cache_read_input_tokens, NEW.cache_creation_input_tokens, NEW.reasoning_output_tokens,
        NEW.calls
    );
END;

-- All that rollups tell apart besides the subject, as one number: five texts would make their keys
-- several times as long.
CREATE TABLE kinds (
    kind INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    provenance TEXT NOT NULL,
    status TEXT NOT NULL,
    UNIQUE (type, provider, model, provenance, status)
);

-- Rollups of what is no longer recent. An answer is made of them and of what is recent, both read at
-- one moment. A sum is NULL where no event of it has the count.

-- Windows of 15 minutes, of which the hours and days of every time zone are made.
CREATE TABLE quarters (
    subject TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    total_tokens INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    calls INTEGER,
    events INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    PRIMARY KEY (subject, window_start, kind)
) WITHOUT ROWID;

-- Days of UTC: a year of them is read as quickly as four days of the above.
CREATE TABLE days (
    subject TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    total_tokens INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    calls INTEGER,
    events INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    PRIMARY KEY (subject, window_start, kind)
) WITHOUT ROWID;

-- For questions that ask for all subjects and tell nothing else apart.
CREATE TABLE subject_days (
    type TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    subject TEXT NOT NULL,
    total_tokens INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    calls INTEGER,
    events INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    PRIMARY KEY (type, window_start, subject)
) WITHOUT ROWID;

-- For questions that tell no subjects apart.
CREATE TABLE kind_days (
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    total_tokens INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    calls INTEGER,
    events INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    PRIMARY KEY (window_start, kind)
) WITHOUT ROWID;

-- The same in windows of 15 minutes: everybody's hours, and their days where days are not those of UTC.
CREATE TABLE kind_quarters (
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    total_tokens INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    calls INTEGER,
    events INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    PRIMARY KEY (window_start, kind)
) WITHOUT ROWID;

-- Where the events of a subject are that are no longer recent: what rollups do not tell apart is
-- looked up in the events themselves. An index of the table would be written with each event.
CREATE TABLE places (
    subject TEXT NOT NULL,
    time INTEGER NOT NULL,
    -- The event's rowid. As no event is ever deleted they are 1, 2, 3, …, which VACUUM leaves as it is.
    place INTEGER NOT NULL,
    PRIMARY KEY (subject, time, place)
) WITHOUT ROWID;

-- First and last time of events that lie side by side, from behind the row before up to a place: so a
-- question about a period need not look at all events, which come nearly in the order of time.
CREATE TABLE spans (
    through_place INTEGER PRIMARY KEY,
    first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    -- A random number. What is kept of a span outside the ledger is known by it: another ledger, or this
    -- one after a backup was put back, has other events in the same places, be it with the same ids.
    mark INTEGER NOT NULL
);

-- What older libraries know of rollups: they read a table of this name and add up what they find in
-- it. It has 0 where they had no way to say that nobody knows.
CREATE VIEW rollups (
    grain, window_start, type, subject, provider, model, provenance, status,
    total_tokens, input_tokens, output_tokens,
    cache_read_input_tokens, reasoning_output_tokens, calls,
    events, first_time, last_time
) AS
SELECT
    900, window_start, type, subject, provider, model, provenance, status,
    ifnull(total_tokens, 0), ifnull(input_tokens, 0), ifnull(output_tokens, 0),
    ifnull(cache_read_input_tokens, 0), ifnull(reasoning_output_tokens, 0), ifnull(calls, 0),
    events, first_time, last_time
FROM quarters JOIN kinds USING (kind)
UNION ALL
SELECT
    900, time - time % 900000000, type, subject, provider, model, provenance, status,
    ifnull(total_tokens, 0), ifnull(input_tokens, 0), ifnull(output_tokens, 0),
    ifnull(cache_read_input_tokens, 0), ifnull(reasoning_output_tokens, 0), ifnull(calls, 0),
    1, time, time
FROM recent
UNION ALL
SELECT
    86400, window_start, type, subject, provider, model, provenance, status,
    ifnull(total_tokens, 0), ifnull(input_tokens, 0), ifnull(output_tokens, 0),
    ifnull(cache_read_input_tokens, 0), ifnull(reasoning_output_tokens, 0), ifnull(calls, 0),
    events, first_time, last_time
FROM days JOIN kinds USING (kind)
UNION ALL
SELECT
    86400, time - time % 86400000000, type, subject, provider, model, provenance, status,
    ifnull(total_tokens, 0), ifnull(input_tokens, 0), ifnull(output_tokens, 0),
    ifnull(cache_read_input_tokens, 0), ifnull(reasoning_output_tokens, 0), ifnull(calls, 0),
    1, time, time
FROM recent;

INSERT INTO kinds (type, provider, model, provenance, status)
SELECT DISTINCT
    type, ifnull(provider, ''), ifnull(model, ''), ifnull(provenance, ''), ifnull(status, '')
FROM events;

INSERT INTO quarters
SELECT
    subject, time - time % 900000000, kind,
    sum(total_tokens), sum(input_tokens), sum(output_tokens),
    sum(cache_read_input_tokens), sum(cache_creation_input_tokens), sum(reasoning_output_tokens),
    sum(calls), count(*), min(time), max(time)
FROM events AS e JOIN kinds AS k
    ON k.type = e.type AND k.provider = ifnull(e.provider, '') AND k.model = ifnull(e.model, '')
    AND k.provenance = ifnull(e.provenance, '') AND k.status = ifnull(e.status, '')
GROUP BY 1, 2, 3;

INSERT INTO days
SELECT
    subject, window_start - window_start % 86400000000, kind,
    sum(total_tokens), sum(input_tokens), sum(output_tokens),
    sum(cache_read_input_tokens), sum(cache_creation_input_tokens), sum(reasoning_output_tokens),
    sum(calls), sum(events), min(first_time), max(last_time)
FROM quarters
GROUP BY 1, 2, 3;

INSERT INTO subject_days
SELECT
    type, window_start, subject,
    sum(total_tokens), sum(input_tokens), sum(output_tokens),
    sum(cache_read_input_tokens), sum(cache_creation_input_tokens), sum(reasoning_output_tokens),
    sum(calls), sum(events), min(first_time), max(last_time)
FROM days JOIN kinds USING (kind)
GROUP BY 1, 2, 3;

INSERT INTO kind_days
SELECT
    window_start, kind,
    sum(total_tokens), sum(input_tokens), sum(output_tokens),
    sum(cache_read_input_tokens), sum(cache_creation_input_tokens), sum(reasoning_output_tokens),
    sum(calls), sum(events), min(first_time), max(last_time)
FROM days
GROUP BY 1, 2;

INSERT INTO kind_quarters
SELECT
    window_start, kind,
    sum(total_tokens), sum(input_tokens), sum(output_tokens),
    sum(cache_read_input_tokens), sum(cache_creation_input_tokens), sum(reasoning_output_tokens),
    sum(calls), sum(events), min(first_time), max(last_time)
FROM quarters
GROUP BY 1, 2;

INSERT INTO places (subject, time, place)
SELECT subject, time, rowid FROM events ORDER BY 1, 2, 3;

-- As many side by side as are folded at once later on.
INSERT INTO spans (through_place, first_time, last_time, mark)
SELECT max(rowid), min(time), max(time), random() FROM events GROUP BY (rowid - 1) / 20000;

PRAGMA user_version = 3;
