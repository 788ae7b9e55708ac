-- Usage that is read from a broker: how far each partition was read, and what was passed over.
-- Older libraries may go on writing: they know nothing of these tables and need not.

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
