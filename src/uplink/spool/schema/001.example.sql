-- What a spool of version 1 holds; see tests/damage.rs.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE state (
    key   TEXT PRIMARY KEY,         -- lane.name of the figure, or flash.day, flash.bytes, sum
    value INTEGER NOT NULL          -- 64 bits; counts and epochs are unsigned
) WITHOUT ROWID;
INSERT INTO state VALUES('alarm.acked',0);
INSERT INTO state VALUES('alarm.acknowledged',0);
INSERT INTO state VALUES('alarm.appended',1);
INSERT INTO state VALUES('alarm.dropped-budget',0);
INSERT INTO state VALUES('alarm.dropped-expired',0);
INSERT INTO state VALUES('alarm.dropped-link-lost',0);
INSERT INTO state VALUES('alarm.dropped-other',0);
INSERT INTO state VALUES('alarm.dropped-overflow',0);
INSERT INTO state VALUES('alarm.dropped-reader-gone',0);
INSERT INTO state VALUES('alarm.dropped-superseded',0);
INSERT INTO state VALUES('alarm.epoch',0);
INSERT INTO state VALUES('alarm.head-count',0);
INSERT INTO state VALUES('alarm.local-count',0);
INSERT INTO state VALUES('alarm.local-epoch',0);
INSERT INTO state VALUES('alarm.next',2);
INSERT INTO state VALUES('alarm.sent',0);
INSERT INTO state VALUES('bulk.acked',0);
INSERT INTO state VALUES('bulk.acknowledged',0);
INSERT INTO state VALUES('bulk.appended',0);
INSERT INTO state VALUES('bulk.dropped-budget',0);
INSERT INTO state VALUES('bulk.dropped-expired',0);
INSERT INTO state VALUES('bulk.dropped-link-lost',0);
INSERT INTO state VALUES('bulk.dropped-other',0);
INSERT INTO state VALUES('bulk.dropped-overflow',0);
INSERT INTO state VALUES('bulk.dropped-reader-gone',0);
INSERT INTO state VALUES('bulk.dropped-superseded',0);
INSERT INTO state VALUES('bulk.epoch',0);
INSERT INTO state VALUES('bulk.head-count',0);
INSERT INTO state VALUES('bulk.local-count',0);
INSERT INTO state VALUES('bulk.local-epoch',0);
INSERT INTO state VALUES('bulk.next',1);
INSERT INTO state VALUES('bulk.sent',0);
INSERT INTO state VALUES('flash.bytes',115892);
INSERT INTO state VALUES('flash.day',20601);
INSERT INTO state VALUES('normal.acked',0);
INSERT INTO state VALUES('normal.acknowledged',0);
INSERT INTO state VALUES('normal.appended',2);
INSERT INTO state VALUES('normal.dropped-budget',0);
INSERT INTO state VALUES('normal.dropped-expired',0);
INSERT INTO state VALUES('normal.dropped-link-lost',0);
INSERT INTO state VALUES('normal.dropped-other',0);
INSERT INTO state VALUES('normal.dropped-overflow',0);
INSERT INTO state VALUES('normal.dropped-reader-gone',0);
INSERT INTO state VALUES('normal.dropped-superseded',0);
INSERT INTO state VALUES('normal.epoch',5);
INSERT INTO state VALUES('normal.head-count',100);
INSERT INTO state VALUES('normal.local-count',42);
INSERT INTO state VALUES('normal.local-epoch',17);
INSERT INTO state VALUES('normal.next',4);
INSERT INTO state VALUES('normal.sent',0);
INSERT INTO state VALUES('sum',-528487614);
CREATE TABLE topic (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    schema BLOB,                    -- of a topic with readings
    sum    INTEGER NOT NULL         -- CRC-32 of the other columns; so in every table below
);
INSERT INTO topic VALUES(1,'hall/temperature',NULL,10853915);
INSERT INTO topic VALUES(2,'hall/door',NULL,225880272);
INSERT INTO topic VALUES(3,'hall/smoke',NULL,-1722722789);
CREATE TABLE publisher (
    id       INTEGER PRIMARY KEY,
    identity TEXT NOT NULL,
    name     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    sum      INTEGER NOT NULL
);
INSERT INTO publisher VALUES(1,'sensor','7',-2,-1251878407);
CREATE TABLE mark (
    publisher INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    last      INTEGER NOT NULL,     -- seq of its last row in the lane
    central   INTEGER NOT NULL,     -- its count up to which the lane holds nothing any more
    sum       INTEGER NOT NULL,
    PRIMARY KEY (publisher, lane)
) WITHOUT ROWID;
INSERT INTO mark VALUES(1,1,3,2,35161775);
CREATE TABLE boot (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    offset INTEGER,                 -- milliseconds from the boot's zero to 1970; NULL: never set
    sum    INTEGER NOT NULL
);
INSERT INTO boot VALUES(1,'boot-1',1779913600000,-465729411);
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
INSERT INTO rows_alarm VALUES(1,0,3,0,NULL,1,86400000,1780000000000,0,0,0,X'796573',855306941);
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
INSERT INTO rows_normal VALUES(1,0,1,3,1,1,86400000,1780000000000,0,0,0,X'32312e35',1887732121);
INSERT INTO rows_normal VALUES(2,2,2,2,NULL,NULL,0,NULL,0,0,0,NULL,1910932119);
INSERT INTO rows_normal VALUES(3,0,2,4,1,1,86400000,1780000000000,0,0,0,X'6f70656e',1476402790);
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
CREATE INDEX topic_by_name ON topic (name);
CREATE INDEX publisher_by_name ON publisher (identity, name, epoch);
CREATE INDEX latest_alarm ON rows_alarm (topic) WHERE policy = 1 AND what = 0;
CREATE INDEX latest_normal ON rows_normal (topic) WHERE policy = 1 AND what = 0;
CREATE INDEX latest_bulk ON rows_bulk (topic) WHERE policy = 1 AND what = 0;
PRAGMA user_version = 1;
COMMIT;
