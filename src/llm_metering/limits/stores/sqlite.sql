-- Accounts of subjects, and what is reserved of them. Times are microseconds since 1970.

CREATE TABLE accounts (
    subject TEXT NOT NULL,
    feature TEXT NOT NULL,
    -- Whole steps that grants have left.
    free INTEGER NOT NULL,
    -- Steps that are reserved: the sum of the rows of `reservations`.
    reserved INTEGER NOT NULL,
    -- Until when `free` is right if nothing is burnt.
    changes_at INTEGER NOT NULL,
    -- The account, as JSON.
    state TEXT NOT NULL,
    PRIMARY KEY (subject, feature)
) WITHOUT ROWID;

CREATE TABLE reservations (
    id TEXT NOT NULL,
    subject TEXT NOT NULL,
    feature TEXT NOT NULL,
    steps INTEGER NOT NULL,
    -- From when on it no longer counts.
    ends_at INTEGER NOT NULL,
    PRIMARY KEY (id, subject, feature)
) WITHOUT ROWID;

CREATE INDEX reservations_of_accounts ON reservations (subject, feature, ends_at);

-- How much subjects may begin a minute.
CREATE TABLE terms (
    subject TEXT PRIMARY KEY,
    requests_per_minute INTEGER,
    tokens_per_minute INTEGER
) WITHOUT ROWID;

-- What subjects have begun: when all of it will be more than a minute ago.
CREATE TABLE rates (
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    empty_at INTEGER NOT NULL,
    PRIMARY KEY (subject, kind)
) WITHOUT ROWID;

-- Events that were burnt.
CREATE TABLE settled (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (source, id)
) WITHOUT ROWID;

PRAGMA user_version = 1;
