//! `fastportd`, the gateway daemon.

fn main() {}
