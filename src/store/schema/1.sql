-- The first form of a central instance's store.

-- One row for each session whose messages are held: how far its stream is in here.
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL UNIQUE,
    -- a number of 64 bits
    epoch INTEGER NOT NULL,
    -- counted frames of the epoch
    count INTEGER NOT NULL,
    -- batches, so that one that was committed is known when it comes again
    serial INTEGER NOT NULL
) STRICT;

-- A topic with a schema; with another schema it is another row.
CREATE TABLE topic (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES stream (id),
    name TEXT NOT NULL,
    -- empty: none
    schema BLOB NOT NULL,
    UNIQUE (stream, name, schema)
) STRICT;

-- In the order in which they came.
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic INTEGER NOT NULL REFERENCES topic (id),
    -- of DATA: 1 counted, 2 keep, 4 sealed, 8 readings
    flags INTEGER NOT NULL,
    -- when it was taken, by the clock of who took it, in milliseconds since 1970
    stamp INTEGER NOT NULL,
    -- when it was stored, by the clock here
    stored INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;

-- Messages that did not come.
CREATE TABLE gap (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL REFERENCES stream (id),
    -- none: of several topics
    topic INTEGER REFERENCES topic (id),
    messages INTEGER NOT NULL,
    -- of GAP: 0 superseded, 1 overflow, 2 budget, 3 expired, 4 reader-gone, 5 link-lost, 6 other
    cause INTEGER NOT NULL,
    -- behind how many counted frames of which epoch
    epoch INTEGER NOT NULL,
    place INTEGER NOT NULL,
    stored INTEGER NOT NULL
) STRICT;

CREATE INDEX gap_by_place ON gap (stream, epoch, place);

-- One row: what is in here.
CREATE TABLE total (
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;

INSERT INTO total VALUES (0, 0);

-- For people.
CREATE VIEW messages AS
    SELECT message.id, session, name AS topic, flags, stamp, stored, payload
    FROM message JOIN topic ON topic.id = message.topic JOIN stream ON stream.id = topic.stream;

CREATE VIEW gaps AS
    SELECT gap.id, session, name AS topic, messages, cause, stored
    FROM gap JOIN stream ON stream.id = gap.stream LEFT JOIN topic ON topic.id = gap.topic;
