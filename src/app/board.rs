//! The board's readings, from its sensors to their session.

use std::path::Path;

use fastport_wire::frame::DataFlags;
use tracing::{info, warn};

use crate::board::Board;
use crate::config;
use crate::hub::{Hub, Room};

/// Publishes the board's own readings until it is dropped; a daemon that is alone sleeps.
pub(super) async fn publish(hub: &Hub, options: &config::Board) {
    if !options.enabled {
        return;
    }
    let Some(room) = options.session.as_ref().and_then(|session| hub.room(session.as_str())) else {
        return;
    };
    room.occupied().await;
    // a sensor's file can take its driver a while, so all of it happens beside the runtime
    let discovered = tokio::task::spawn_blocking(|| Board::discover(Path::new("/"))).await;
    let Ok(mut board) = discovered else { return };
    info!(sensors = board.sensors().len(), "publishing the board's sensors");
    let mut ticks = tokio::time::interval(options.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // nobody would read it; who comes after a pause finds a tick that is past already
        room.occupied().await;
        ticks.tick().await;
        let sampled = tokio::task::spawn_blocking(move || {
            let samples: Vec<(usize, Vec<u8>)> = board
                .sample()
                .iter()
                .map(|sample| (sample.sensor, sample.payload().to_vec()))
                .collect();
            (board, samples)
        });
        let Ok((back, samples)) = sampled.await else { return };
        board = back;
        publish_samples(&room, &board, &samples);
    }
}

fn publish_samples(room: &Room, board: &Board, samples: &[(usize, Vec<u8>)]) {
    let flags = DataFlags::READINGS.with(DataFlags::KEEP);
    for (index, payload) in samples {
        let Some(sensor) = board.sensors().get(*index) else { continue };
        let mut schema = [0; fastport_wire::schema::MAX_SCHEMA];
        let Ok(length) = sensor.schema().encode(&mut schema) else { continue };
        let schema = schema.get(..length);
        if let Err(error) = room.publish_own(sensor.topic(), schema, flags, payload) {
            warn!(topic = sensor.topic(), ?error, "the board's reading is not published");
        }
    }
}
