//! In the place of `uplink` where that is not built in.

use super::arguments::{Common, UplinkStatus, UplinkTest};
use super::exit::{Failure, Outcome};

pub(super) async fn status(_: &UplinkStatus, _: Common) -> Outcome {
    refuse()
}

pub(super) fn test(_: &UplinkTest) -> Outcome {
    refuse()
}

fn refuse() -> Outcome {
    Err(Failure::usage("this build has no uplink; use one of the feature set `edge`"))
}
