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
