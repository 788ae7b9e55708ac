-- The ledger: every event once, and sums of them by time that are exact at every commit.
-- Times are microseconds since 1970-01-01T00:00:00Z. Plain SQL of SQLite 3.24 (UPSERT).

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- The lowest schema version (PRAGMA user_version of the library's own schema) that may write
-- here. A version that only adds what older libraries can ignore leaves it as it is.
INSERT INTO meta (key, value) VALUES ('oldest_writer', 1);

-- A key 'pruned_before' is there once bodies of events were given up, of times before it.

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
    -- The CloudEvent as it was delivered; '' if its body was given up (see `pruned_before`).
    payload TEXT NOT NULL,
    -- The service tier, '' if it names none, of an event of which nothing but this and the columns here
    -- decides what it costs; NULL where its body has more of that, or an older library inserted it.
    plain_tier TEXT,
    UNIQUE (source, id)
);

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

-- What events cost, by two books: 1 is money (`cost`), 2 is credits (`credits`). Amounts are whole
-- numbers of 1E-12 of the currency's unit ("picos").

-- Up to which place events have been looked at, each of which has a row of `costs` by then if it is of
-- a type that is priced.
CREATE TABLE price_books (
    book INTEGER PRIMARY KEY,
    through_place INTEGER NOT NULL
);

-- Each list of prices that events were priced with, and each time that events were priced again. A
-- version stays as it was once there is a later one of its book.
CREATE TABLE price_versions (
    version INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    time INTEGER NOT NULL,
    list_name TEXT NOT NULL,
    list_version TEXT NOT NULL
);

-- Prices that events were priced with, or why they have no price, as JSON.
CREATE TABLE price_cards (
    card INTEGER PRIMARY KEY,
    -- '' of what has no price; '*' of what costs nothing in any currency.
    currency TEXT NOT NULL,
    text TEXT NOT NULL UNIQUE
);

-- What each event costs, with what of it decided about that: a row is found by the place of its event.
CREATE TABLE costs (
    book INTEGER NOT NULL,
    place INTEGER NOT NULL,
    -- The version in which it was priced like this.
    version INTEGER NOT NULL,
    -- The version in which it was priced anew; NULL of what holds.
    superseded INTEGER,
    -- The same as in the event, so that sums need not look at events.
    time INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind INTEGER NOT NULL,
    card INTEGER NOT NULL,
    -- NULL if it has no price.
    picos INTEGER,
    calls INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    input_image INTEGER NOT NULL,
    input_video INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    output_image INTEGER NOT NULL,
    -- What else was charged, by its name, as JSON; NULL if nothing.
    others TEXT,
    PRIMARY KEY (book, place, version)
) WITHOUT ROWID;

-- What is rare, and in no sum.
CREATE INDEX costs_of_others ON costs (book, time) WHERE others IS NOT NULL;

-- Sums of what holds. Picos are added up in two parts, since a sum may be beyond 64 bits: times 2^32,
-- and the rest. A row with 0 events stands for none.

-- Up to which place rows are in a table of sums, which is never beyond the one in `price_books`: who asks
-- adds the rows behind it. 0 of what has no row here.
CREATE TABLE cost_places (
    book INTEGER NOT NULL,
    -- The table's name.
    sums TEXT NOT NULL,
    through_place INTEGER NOT NULL,
    PRIMARY KEY (book, sums)
) WITHOUT ROWID;

-- Months of UTC, for bills.
CREATE TABLE cost_months (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind INTEGER NOT NULL,
    card INTEGER NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    input_image INTEGER NOT NULL,
    input_video INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    output_image INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, subject, kind, card)
) WITHOUT ROWID;

-- Days of UTC, for questions that tell subjects apart and nothing else.
CREATE TABLE cost_subject_days (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    subject TEXT NOT NULL,
    currency TEXT NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, subject, currency)
) WITHOUT ROWID;

-- For questions that tell no subjects apart.
CREATE TABLE cost_kind_days (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    currency TEXT NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, kind, currency)
) WITHOUT ROWID;

-- The same in windows of 15 minutes.
CREATE TABLE cost_kind_quarters (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    currency TEXT NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, kind, currency)
) WITHOUT ROWID;

-- What was signed about the ledger as a whole: that signing begins, or goes on with another key
-- ('begin'), and that bodies may be given up ('prune'). Each is signed with the one before it.
CREATE TABLE seals (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    time INTEGER NOT NULL,
    -- The last event that there was, and its link; NULL where events are there that nobody has signed.
    place INTEGER NOT NULL,
    link BLOB,
    -- Of 'prune': bodies of events of before this may be gone.
    before INTEGER,
    key_id TEXT NOT NULL,
    mac BLOB NOT NULL
);

-- The signature of each event, over the one before it and all that the event's row says. A table of its
-- own: a column of `events` would have to be filled by a second write of each row.
CREATE TABLE links (
    place INTEGER PRIMARY KEY,
    mac BLOB NOT NULL,
    -- The SHA-256 of a body that was given up.
    body BLOB
);

-- When events came, to the second: those from a place on, until the next. By the clock of who wrote them,
-- which may have been set back between two rows. Of what an older library has written before there was
-- this table, nobody knows.
CREATE TABLE arrivals (
    place INTEGER PRIMARY KEY,
    time INTEGER NOT NULL
);

-- A trigger, so that events are in it which an older library inserts.
CREATE TRIGGER events_arrive AFTER INSERT ON events
WHEN CAST(strftime('%s', 'now') AS INTEGER) * 1000000
    IS NOT (SELECT time FROM arrivals ORDER BY place DESC LIMIT 1)
BEGIN
    INSERT INTO arrivals (place, time)
    VALUES (NEW.rowid, CAST(strftime('%s', 'now') AS INTEGER) * 1000000);
END;

PRAGMA user_version = 6;
