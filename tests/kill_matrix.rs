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

use std::time::Duration;

use matrix::{Pair, Victim};
use site::Site;
use support::Daemon;

/// Little memory and the least disk: an outage of some hundred milliseconds makes rows, one of a second
/// or two drops some.
const SPOOL: &str = "spool = { memory = '64KiB', disk = '1MiB' }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_any_kill_once_and_in_order_and_what_is_dropped_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines = format!("{SPOOL}\n{}", matrix::RULES);
    let (central, gateway) = (Some(site.start_central()), Some(site.start_gateway()));
    let totals = matrix::run(&site, Processes { site: &site, central, gateway }).await;
    assert!(totals.spooled > 0, "nothing went to the disk: {totals:?}");
}

/// Both as processes of the test.
struct Processes<'a> {
    site: &'a Site,
    central: Option<Daemon>,
    gateway: Option<Daemon>,
}

impl Processes<'_> {
    fn end_those(&mut self, victim: Victim) {
        // dropped is killed
        if victim != Victim::Gateway {
            self.central = None;
        }
        if victim != Victim::Central {
            self.gateway = None;
        }
    }

    /// Starts those, and does not wait for them.
    fn launch(&mut self, victim: Victim) {
        if victim != Victim::Gateway {
            self.central = Some(self.site.launch_central());
        }
        if victim != Victim::Central {
            self.gateway = Some(self.site.launch_gateway());
        }
    }

    fn wait_until_ready(&mut self) {
        for daemon in self.central.iter_mut().chain(&mut self.gateway) {
            daemon.wait_for("ready");
        }
    }
}

impl Pair for Processes<'_> {
    fn kill(&mut self, victim: Victim) {
        self.end_those(victim);
        self.launch(victim);
        self.wait_until_ready();
    }

    fn kill_twice(&mut self, victim: Victim, after: Duration) -> bool {
        self.end_those(victim);
        self.launch(victim);
        // a random point in a start
        std::thread::park_timeout(after);
        let (mut central, mut gateway) = (None, None);
        if victim != Victim::Gateway {
            central = self.central.take();
        }
        if victim != Victim::Central {
            gateway = self.gateway.take();
        }
        let killed = central.into_iter().chain(gateway).map(Daemon::kill);
        let logs: Vec<String> = killed.collect();
        self.launch(victim);
        self.wait_until_ready();
        logs.iter().any(|log| !log.contains("ready"))
    }

    fn take_central_away(&mut self) {
        self.central = None;
    }

    fn bring_central_back(&mut self) {
        self.launch(Victim::Central);
        self.wait_until_ready();
    }

    fn end(self) {}
}
