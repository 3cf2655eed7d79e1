//! Gateway and central instance are killed, at random moments, one or both, while devices publish
//! counted messages and commands flow down: nothing that was acknowledged is lost, nothing comes
//! twice, and each stream keeps its order. Here with journals and spool on disk.

#[path = "support/access.rs"]
mod access;
#[path = "support/matrix.rs"]
mod matrix;
#[path = "support/site.rs"]
mod site;
mod support;

use matrix::{Pair, Victim};
use site::Site;
use support::Daemon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_any_kill_once_and_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines = matrix::RULES.to_owned();
    let (central, gateway) = (Some(site.start_central()), Some(site.start_gateway()));
    matrix::run(&site, Processes { site: &site, central, gateway }).await;
}

/// Both as processes of the test.
struct Processes<'a> {
    site: &'a Site,
    central: Option<Daemon>,
    gateway: Option<Daemon>,
}

impl Pair for Processes<'_> {
    fn kill(&mut self, victim: Victim) {
        // dropped is killed
        if matches!(victim, Victim::Central | Victim::Both) {
            self.central = None;
        }
        if matches!(victim, Victim::Gateway | Victim::Both) {
            self.gateway = None;
        }
        self.central.get_or_insert_with(|| self.site.start_central());
        self.gateway.get_or_insert_with(|| self.site.start_gateway());
    }

    fn end(self) {}
}
