-- The spool's first layout. `user_version` is the number of the last file that was run.
-- Rows of one table each, for a lane is appended to at its end and read from its start.

CREATE TABLE state (
    key   TEXT PRIMARY KEY,         -- lane.name of the figure, or flash.day, flash.bytes, sum
    value INTEGER NOT NULL          -- 64 bits; counts and epochs are unsigned
) WITHOUT ROWID;

CREATE TABLE topic (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    schema BLOB,                    -- of a topic with readings
    sum    INTEGER NOT NULL         -- CRC-32 of the other columns; so in every table below
);
CREATE INDEX topic_by_name ON topic (name);

CREATE TABLE publisher (
    id       INTEGER PRIMARY KEY,
    identity TEXT NOT NULL,
    name     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    sum      INTEGER NOT NULL
);
CREATE INDEX publisher_by_name ON publisher (identity, name, epoch);

-- How far a publisher's messages of a lane are at the central instance.
CREATE TABLE mark (
    publisher INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    last      INTEGER NOT NULL,     -- seq of its last row in the lane
    central   INTEGER NOT NULL,     -- its count up to which the lane holds nothing any more
    sum       INTEGER NOT NULL,
    PRIMARY KEY (publisher, lane)
) WITHOUT ROWID;

-- Times since a boot become times of day when the clock was set in that boot.
CREATE TABLE boot (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    offset INTEGER,                 -- milliseconds from the boot's zero to 1970; NULL: never set
    sum    INTEGER NOT NULL
);

CREATE TABLE rows_alarm (
    seq       INTEGER PRIMARY KEY,
    what      INTEGER NOT NULL,     -- 0: a message; else a gap, the cause's number + 1
    topic     INTEGER,              -- NULL: a gap of several topics
    count     INTEGER NOT NULL,     -- message: the publisher's count; gap: how many messages
    publisher INTEGER,
    boot      INTEGER,              -- since which boot `at` counts
    at        INTEGER NOT NULL,     -- milliseconds; the age begins here
    unix      INTEGER,              -- the message's time of day; NULL: `at` is its time
    max_age   INTEGER NOT NULL,     -- seconds; 0: none
    policy    INTEGER NOT NULL,     -- 0 drop-oldest, 1 latest, 2 slow-publisher
    flags     INTEGER NOT NULL,     -- as in a DATA frame
    payload   BLOB,
    sum       INTEGER NOT NULL
);
CREATE INDEX latest_alarm ON rows_alarm (topic) WHERE policy = 1 AND what = 0;

CREATE TABLE rows_normal (
    seq       INTEGER PRIMARY KEY,
    what      INTEGER NOT NULL,
    topic     INTEGER,
    count     INTEGER NOT NULL,
    publisher INTEGER,
    boot      INTEGER,
    at        INTEGER NOT NULL,
    unix      INTEGER,
    max_age   INTEGER NOT NULL,
    policy    INTEGER NOT NULL,
    flags     INTEGER NOT NULL,
    payload   BLOB,
    sum       INTEGER NOT NULL
);
CREATE INDEX latest_normal ON rows_normal (topic) WHERE policy = 1 AND what = 0;

CREATE TABLE rows_bulk (
    seq       INTEGER PRIMARY KEY,
    what      INTEGER NOT NULL,
    topic     INTEGER,
    count     INTEGER NOT NULL,
    publisher INTEGER,
    boot      INTEGER,
    at        INTEGER NOT NULL,
    unix      INTEGER,
    max_age   INTEGER NOT NULL,
    policy    INTEGER NOT NULL,
    flags     INTEGER NOT NULL,
    payload   BLOB,
    sum       INTEGER NOT NULL
);
CREATE INDEX latest_bulk ON rows_bulk (topic) WHERE policy = 1 AND what = 0;
