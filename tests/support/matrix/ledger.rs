//! What the central instance has of each topic, and whether it adds up to what was published.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::devices::{Ended, GROUPS};

/// By topic, its name at the gateway.
pub struct Ledger {
    held: BTreeMap<String, Vec<u64>>,
    missing: BTreeMap<String, u64>,
}

/// What is there of a topic: published, held, missing.
struct Found<'a> {
    held: &'a [u64],
    figures: [u64; 3],
}

impl Ledger {
    pub fn read(store: &Path) -> Self {
        let database = Connection::open(store).expect("the store is there");
        let mut ledger = Self { held: BTreeMap::new(), missing: BTreeMap::new() };
        let mut query = database
            .prepare(
                "SELECT name, payload FROM message JOIN topic ON topic.id = message.topic
                 ORDER BY message.id",
            )
            .expect("the tables are there");
        let mut rows = query.query([]).expect("a query");
        while let Some(row) = rows.next().expect("a row") {
            let (topic, payload): (String, Vec<u8>) =
                (row.get(0).expect("a name"), row.get(1).expect("a payload"));
            let text = String::from_utf8(payload).expect("text");
            let number = text.trim_end_matches('x').parse().expect("a number");
            ledger.held.entry(local(&topic)).or_default().push(number);
        }
        let mut query = database
            .prepare(
                "SELECT coalesce(name, 'several'), sum(messages) FROM gap
                 LEFT JOIN topic ON topic.id = gap.topic GROUP BY name",
            )
            .expect("the tables are there");
        let mut rows = query.query([]).expect("a query");
        while let Some(row) = rows.next().expect("a row") {
            let topic: String = row.get(0).expect("a name");
            *ledger.missing.entry(local(&topic)).or_default() += row.get::<_, u64>(1).expect("sum");
        }
        ledger
    }

    fn of(&self, topic: &str, published: u64) -> Found<'_> {
        let held = self.held.get(topic).map_or(&[][..], Vec::as_slice);
        let missing = self.missing.get(topic).copied().unwrap_or(0);
        Found { held, figures: [published, held.len() as u64, missing] }
    }

    /// Fails unless each device's messages are there or told of, once and in order; a line
    /// of figures, and whether some of each group that may miss messages does.
    pub fn check(&self, ended: &[Ended], seed: u64) -> (String, bool) {
        let (mut wrong, mut totals) = (Vec::new(), [[0; 3]; GROUPS.len()]);
        for device in ended {
            let commands: Vec<u64> = (1..=device.sent).collect();
            if device.received != commands {
                wrong.push(format!("commands of device {}: {:?}", device.number, device.received));
            }
            for (place, (group, _)) in GROUPS.iter().enumerate() {
                let topic = format!("{group}/dev{}", device.number);
                let found = self.of(&topic, device.published[place]);
                totals[place].iter_mut().zip(found.figures).for_each(|(sum, more)| *sum += more);
                if let Some(fault) = found.fault(place > 0) {
                    wrong.push(format!("{topic}: {fault}"));
                }
            }
        }
        let sent: u64 = ended.iter().map(|device| device.sent).sum();
        let line = format!("published, held, missing of up, old, short: {totals:?}; {sent} down");
        assert!(wrong.is_empty(), "seed {seed:#x}: {line}\n{}", wrong.join("\n"));
        assert!(!self.missing.contains_key("several"), "{:?}", self.missing);
        let [_, [.., old], [.., short]] = totals;
        (line, old > 0 && short > 0)
    }
}

impl Found<'_> {
    /// What is not as it was promised.
    fn fault(&self, may_miss: bool) -> Option<String> {
        let [published, held, missing] = self.figures;
        let is_in_order = self.held.is_sorted_by(|before, after| before < after);
        let is_exact = held + missing == published && (missing == 0 || may_miss);
        let figures = "published, held, told as missing";
        (!is_in_order || !is_exact)
            .then(|| format!("{figures}: {:?}; {}", self.figures, jumps(self.held)))
    }
}

/// Where numbers do not follow each other.
fn jumps(held: &[u64]) -> String {
    let pairs = held.windows(2).filter(|pair| pair[1] != pair[0] + 1);
    let pairs: Vec<_> = pairs.map(|pair| format!("{}-{}", pair[0], pair[1])).collect();
    format!("from {:?} to {:?}, jumps {}", held.first(), held.last(), pairs.join(" "))
}

fn local(topic: &str) -> String {
    topic.strip_prefix("gateways/gw/").unwrap_or(topic).to_owned()
}
