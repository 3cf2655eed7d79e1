//! In the place of `packing` where that is not built in: no peer is told that PACK frames are taken, and
//! there is none of these.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Context;

use fastport_core::budget::Budget;
use fastport_core::session::Gone;

use super::drive::Carrier;
use super::given::{Given, Wrote};
use crate::hub::Seat;

pub(super) const IS_BUILT_IN: bool = false;

pub(super) struct Packing(Infallible);

impl Packing {
    pub(super) fn try_new(_: &Arc<Budget>) -> Option<Self> {
        None
    }

    pub(super) fn done(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn poll_output<C: Carrier>(
        &mut self,
        _: &Seat,
        _: &mut C,
        _: &mut Context<'_>,
    ) -> Result<Wrote, Gone> {
        match self.0 {}
    }

    pub(super) fn handle(&mut self, _: &Seat, _: &[u8]) -> Result<Given, Gone> {
        match self.0 {}
    }
}
