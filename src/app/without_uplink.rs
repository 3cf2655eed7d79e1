//! In the place of `uplink` where that is not built in. The configuration refuses what would need it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Session};
use crate::hub::{Hub, Show};
use crate::supervise::tasks::Tasks;

/// There is none.
pub(super) struct Uplink;

/// Nothing can go wrong.
#[derive(Debug)]
pub enum UplinkError {}

impl fmt::Display for UplinkError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for UplinkError {}

impl Uplink {
    pub(super) const fn set_up(
        _: &Config,
        _: &[Session],
        _: &Arc<Hub>,
        _: bool,
    ) -> Result<Self, UplinkError> {
        Ok(Self)
    }

    pub(super) fn figures(&self) -> Option<Arc<dyn Show>> {
        None
    }

    pub(super) const fn spawn(&self, _: &mut Tasks) {}

    pub(super) async fn end(&self, _: Duration) {}
}
