//! What a device of a gateway waits for, and what the gateway says of its lane.
#![allow(unreachable_pub, reason = "each test has it as a module of its own")]

use fastport_client::{Client, Tier};
use serde_json::Value;
use tokio::time::timeout;

use super::support::DEADLINE;

/// Waits until so many counted messages of the client are where the tier says.
pub async fn wait(client: &Client, count: u64, tier: Tier) {
    timeout(DEADLINE, client.wait(count, tier)).await.expect("in time").expect("it is there");
}

/// The figures of the lane `normal`.
pub async fn lane(client: &Client) -> Value {
    let text = client.status().await.expect("figures");
    let mut figures: Value = serde_json::from_str(&text).expect("JSON");
    figures["uplink"]["lanes"]["normal"].take()
}
