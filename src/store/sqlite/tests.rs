use fastport_wire::frame::GapCause;

use super::*;

fn topic(name: &str, schema: &[u8]) -> Arc<Topic> {
    Arc::new(Topic { name: name.into(), schema: schema.into() })
}

fn message(topic: usize, number: usize) -> Entry {
    Entry::Message { topic, flags: 1, stamp: 5000, payload: number..number + 1 }
}

/// A batch of messages, each with its number as its payload.
fn part(serial: u64, numbers: std::ops::Range<u8>) -> Part {
    let count = u64::from(numbers.end);
    let payloads: Vec<u8> = numbers.collect();
    Part {
        session: "home".into(),
        position: Position { epoch: u64::MAX - 7, count, serial },
        entries: (0..payloads.len()).map(|at| message(0, at)).collect(),
        topics: vec![topic("a", b"")],
        payloads,
    }
}

/// A store that has lived for so long, at a time of day that is something else.
fn at(ms: u64) -> Lived {
    Lived { ms, at_ms: 1_700_000_000_000 - ms }
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("central.db");
        Self { _folder: folder, path }
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(&self.path).expect("the file can be had")
    }

    /// The payloads' first bytes, in order, as somebody else sees them.
    fn numbers(&self) -> Vec<u8> {
        let connection = Connection::open(&self.path).expect("the file is there");
        let mut statement =
            connection.prepare("SELECT payload FROM messages ORDER BY id").expect("the view");
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
        rows.map(|payload| payload.expect("a payload")[0]).collect()
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let connection = Connection::open(&self.path).expect("the file is there");
        connection.query_row(sql, [], |row| row.get(0)).expect(sql)
    }
}

const KEEP: Keep = Keep { age: Duration::from_secs(10), bytes: 1 << 20 };

#[test]
fn a_batch_and_its_position_are_stored_together_and_outlive_the_store() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!(store.position("home").expect("works"), None);
    store.commit(at(9000), &[part(1, 0..3)]).expect("works");
    drop(store);
    let mut store = place.open();
    let position = Position { epoch: u64::MAX - 7, count: 3, serial: 1 };
    assert_eq!(store.position("home").expect("works"), Some(position));
    assert_eq!(store.lived().expect("works"), at(9000));
    assert_eq!(store.figures().expect("works"), Figures { messages: 3, bytes: 3 * 33 });
    assert_eq!(place.numbers(), [0, 1, 2]);
    let sql = "SELECT session || topic || flags || '/' || stamp || '/' || stored FROM messages";
    assert_eq!(place.one::<String>(sql), "homea1/5000/1699999991000");
}

#[test]
fn a_batch_that_comes_again_is_stored_once() {
    let place = Place::new();
    let mut store = place.open();
    for _ in 0..2 {
        store.commit(at(0), &[part(1, 0..3)]).expect("works");
    }
    store.commit(at(0), &[part(2, 3..5)]).expect("works");
    store.commit(at(0), &[part(1, 0..3), part(2, 3..5), part(3, 5..6)]).expect("works");
    assert_eq!(place.numbers(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_topic_with_another_schema_is_another() {
    let place = Place::new();
    let mut store = place.open();
    let mut part = part(1, 0..3);
    part.topics = vec![topic("a", b""), topic("a", b"s"), topic("a", b"")];
    part.entries = (0..3).map(|at| message(at, at)).collect();
    store.commit(at(0), &[part]).expect("works");
    assert_eq!(place.one::<i64>("SELECT count(*) FROM topic"), 2);
    assert_eq!(place.one::<i64>("SELECT count(DISTINCT topic) FROM message"), 2);
}

#[test]
fn gaps_are_stored_with_their_place_and_found_there() {
    let place = Place::new();
    let mut store = place.open();
    let mut part = part(1, 0..3);
    let gap = |topic, messages, cause, place| Entry::Gap { topic, messages, cause, place };
    part.entries.push(gap(Some(0), 4, GapCause::Expired, 2));
    part.entries.push(gap(Some(0), 5, GapCause::Expired, 3));
    part.entries.push(gap(None, 6, GapCause::Expired, 3));
    part.entries.push(gap(None, 7, GapCause::Overflow, 3));
    let position = part.position;
    store.commit(at(0), &[part]).expect("works");
    let mut expected = Missing::default();
    for (topic, cause, messages) in
        [("a", GapCause::Expired, 5), ("", GapCause::Expired, 6), ("", GapCause::Overflow, 7)]
    {
        expected.insert((topic.into(), cause as u8), messages);
    }
    assert_eq!(store.missing_at("home", position).expect("works"), expected);
    let elsewhere = Position { count: 4, ..position };
    assert_eq!(store.missing_at("home", elsewhere).expect("works"), Missing::default());
    assert_eq!(place.one::<i64>("SELECT sum(messages) FROM gaps WHERE topic = 'a'"), 9);
}

#[test]
fn a_stream_may_begin_anew() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(at(0), &[part(1, 0..3)]).expect("works");
    let anew = Position { epoch: 5, count: 0, serial: 1 };
    store.set_position("home", anew).expect("works");
    assert_eq!(store.position("home").expect("works"), Some(anew));
    assert_eq!(place.numbers(), [0, 1, 2]);
}

#[test]
fn what_is_too_old_goes_first() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(at(1000), &[part(1, 0..3)]).expect("works");
    store.commit(at(9000), &[part(2, 3..5)]).expect("works");
    let trimmed = store.trim(at(11_000), KEEP).expect("works");
    assert_eq!(trimmed, Trimmed::default());
    let trimmed = store.trim(at(11_001), KEEP).expect("works");
    assert_eq!(trimmed, Trimmed { messages: 3, goes_on: true });
    assert_eq!(store.trim(at(11_001), KEEP).expect("works"), Trimmed::default());
    assert_eq!(place.numbers(), [3, 4]);
    assert_eq!(store.figures().expect("works"), Figures { messages: 2, bytes: 2 * 33 });
}

#[test]
fn the_oldest_make_room_in_small_steps_and_the_file_does_not_grow_for_ever() {
    let place = Place::new();
    let mut store = place.open();
    let keep = Keep { bytes: 100_000, ..KEEP };
    let mut pages = 0;
    for serial in 1..60 {
        let payloads = vec![u8::try_from(serial).expect("few"); 200];
        let mut part = part(serial, 0..0);
        part.entries = (0..200)
            .map(|_| Entry::Message { topic: 0, flags: 1, stamp: 0, payload: 0..200 })
            .collect();
        part.payloads = payloads;
        store.commit(at(0), &[part]).expect("works");
        while store.trim(at(0), keep).expect("works").goes_on {}
        if serial == 20 {
            pages = place.one::<i64>("PRAGMA page_count");
        }
    }
    let figures = store.figures().expect("works");
    assert!(figures.bytes <= keep.bytes && figures.bytes > keep.bytes - 300, "{figures:?}");
    let sum = "SELECT sum(length(payload) + 32) FROM message";
    assert_eq!(place.one::<i64>(sum).cast_unsigned(), figures.bytes);
    assert_eq!(place.numbers().last(), Some(&59));
    let now = place.one::<i64>("PRAGMA page_count");
    assert!(now <= pages + 10, "{pages} pages became {now}");
}

#[test]
fn old_gaps_go_as_well() {
    let place = Place::new();
    let mut store = place.open();
    let mut part = part(1, 0..0);
    part.entries =
        vec![Entry::Gap { topic: None, messages: 1, cause: GapCause::Expired, place: 0 }];
    store.commit(at(1000), &[part]).expect("works");
    store.trim(at(20_000), KEEP).expect("works");
    assert_eq!(place.one::<i64>("SELECT count(*) FROM gap"), 0);
}

#[test]
fn without_room_nothing_of_a_batch_is_stored_and_later_all_of_it() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(at(0), &[part(1, 0..3)]).expect("works");
    let limit = |store: &mut Sqlite, pages: i64| {
        let opened = store.opened.as_mut().expect("it is open");
        opened.connection.pragma_update(None, "max_page_count", pages).expect("any number");
    };
    let pages = place.one::<i64>("PRAGMA page_count");
    limit(&mut store, pages);
    let mut large = part(2, 3..4);
    large.payloads.resize(50_000, 3);
    large.entries.push(Entry::Message { topic: 0, flags: 1, stamp: 0, payload: 0..50_000 });
    let error = store.commit(at(0), &[large.clone()]).expect_err("there is no room");
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(place.numbers(), [0, 1, 2]);
    // it was opened anew, with room
    store.commit(at(0), &[large]).expect("there is room");
    assert_eq!(place.numbers(), [0, 1, 2, 3, 3]);
}

#[test]
fn a_file_of_each_earlier_version_is_brought_to_that_of_now() {
    for version in 0..SCHEMAS.len() {
        let place = Place::new();
        let connection = Connection::open(&place.path).expect("a new file");
        for schema in SCHEMAS.iter().take(version) {
            connection.execute_batch(schema).expect("a schema");
        }
        connection.pragma_update(None, "user_version", version as i64).expect("a number");
        drop(connection);
        let mut store = place.open();
        store.commit(at(0), &[part(1, 0..3)]).expect("works");
        assert_eq!(place.one::<i64>("PRAGMA user_version"), SCHEMAS.len() as i64);
    }
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let place = Place::new();
    drop(place.open());
    let connection = Connection::open(&place.path).expect("the file is there");
    connection.pragma_update(None, "user_version", 99).expect("a number");
    let error = Sqlite::open(&place.path).expect_err("it is not known");
    assert!(matches!(error, StoreError::Newer { version: 99, .. }), "{error}");
}

#[test]
fn a_file_that_is_none_of_ours_is_said_with_its_name() {
    let place = Place::new();
    std::fs::write(&place.path, vec![7; 10_000]).expect("written");
    let error = Sqlite::open(&place.path).expect_err("it is no database").to_string();
    assert!(error.contains("central.db: cannot open"), "{error}");
}
