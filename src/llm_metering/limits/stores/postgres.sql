-- Accounts of subjects, and what is reserved of them. Times are microseconds since 1970.

CREATE TABLE llm_metering_accounts (
    subject text NOT NULL,
    feature text NOT NULL,
    -- Whole steps that grants have left.
    free bigint NOT NULL,
    -- Steps that are reserved: the sum of the rows of `llm_metering_reservations`.
    reserved bigint NOT NULL,
    -- Until when `free` is right if nothing is burnt.
    changes_at bigint NOT NULL,
    -- The account, as JSON; its numbers may be beyond 64 bits.
    state text NOT NULL,
    PRIMARY KEY (subject, feature)
) WITH (fillfactor = 50);

CREATE TABLE llm_metering_reservations (
    id text NOT NULL,
    subject text NOT NULL,
    feature text NOT NULL,
    steps bigint NOT NULL,
    -- From when on it no longer counts.
    ends_at bigint NOT NULL,
    PRIMARY KEY (id, subject, feature)
);

CREATE INDEX llm_metering_reservations_of_accounts
    ON llm_metering_reservations (subject, feature, ends_at);

-- How much subjects may begin a minute.
CREATE TABLE llm_metering_terms (
    subject text PRIMARY KEY,
    requests_per_minute bigint,
    tokens_per_minute bigint
);

-- What subjects have begun: when all of it will be more than a minute ago.
CREATE TABLE llm_metering_rates (
    subject text NOT NULL,
    kind text NOT NULL,
    empty_at bigint NOT NULL,
    PRIMARY KEY (subject, kind)
) WITH (fillfactor = 50);

-- Events that were burnt.
CREATE TABLE llm_metering_settled (
    source text NOT NULL,
    id text NOT NULL,
    PRIMARY KEY (source, id)
);
