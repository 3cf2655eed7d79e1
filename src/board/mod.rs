//! The board's own sensors, as readings under `$board/`: temperatures, voltages, load, memory,
//! storage, network.
//!
//! It promises: what is not there is not listed; what vanishes, or says nonsense, is counted as an
//! error of its sensor and asked again the next time; nothing here panics, waits for anything but
//! the kernel, or allocates while it samples. It reads files, so async callers run it where
//! blocking is allowed.

use std::path::Path;

use fastport_wire::readings::{MAX_SINGLE, encode_single};

pub use sensor::{Sensor, SensorError};

mod discover;
mod names;
mod sensor;
mod source;

/// Samples after which a sensor is published though its value stayed the same.
pub const DEFAULT_REFRESH: u32 = 30;
/// The most sensors a board has, so that a host of many devices does not fill a session with topics.
pub const MAX_SENSORS: usize = 128;

/// The sensors of one board.
///
/// A sensor is due when it was never published, when its value is further from the one published
/// last than its dead band, or when it was not due in the [`DEFAULT_REFRESH`] - 1 samples before.
/// The dead band of the uptime is the whole range: it comes with the refresh only.
#[derive(Debug)]
pub struct Board {
    sensors: Vec<Sensor>,
    left_out: usize,
    refresh: u32,
    samples: Vec<Sample>,
}

impl Board {
    /// Lists the sensors there are below `root`, which is `/` but in tests. What is plugged in later
    /// is seen by discovering again; a sensor keeps its topic while those before it stay.
    #[must_use]
    pub fn discover(root: &Path) -> Self {
        let (sensors, left_out) = discover::all(root);
        let samples = Vec::with_capacity(sensors.len());
        Self { sensors, left_out, refresh: DEFAULT_REFRESH, samples }
    }

    /// Changes after how many samples an unchanged value is published again; 1 (and 0): always.
    #[must_use]
    pub fn with_refresh(mut self, samples: u32) -> Self {
        self.refresh = samples.max(1);
        self
    }

    /// The sensors, at most [`MAX_SENSORS`].
    #[must_use]
    pub fn sensors(&self) -> &[Sensor] {
        &self.sensors
    }

    /// The sensors, to read one alone.
    pub fn sensors_mut(&mut self) -> &mut [Sensor] {
        &mut self.sensors
    }

    /// How many network interfaces, file systems and sensors were left out, because a limit was
    /// reached.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Reads every sensor and gives the payloads of those that are due. Errors are counted at the
    /// sensors.
    pub fn sample(&mut self) -> &[Sample] {
        self.samples.clear();
        for (index, sensor) in self.sensors.iter_mut().enumerate() {
            let read = sensor.read();
            let Some(value) = sensor.due(read.ok(), self.refresh) else { continue };
            let mut sample = Sample { sensor: index, length: 0, bytes: [0; MAX_SINGLE] };
            sample.length = encode_single(sensor.schema(), value, &mut sample.bytes)
                .expect("a sensor's values are of its schema, and MAX_SINGLE bytes hold any");
            self.samples.push(sample);
        }
        &self.samples
    }
}

/// One reading of one sensor, to be published on its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Its index in [`Board::sensors`].
    pub sensor: usize,
    /// 1 <= length <= MAX_SINGLE
    length: usize,
    bytes: [u8; MAX_SINGLE],
}

impl Sample {
    /// The readings payload, without a stamp: the value is of now.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
