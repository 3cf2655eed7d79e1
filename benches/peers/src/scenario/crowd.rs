//! Many connections, opened some at a time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{Context, Result};

use crate::link::Link;
use crate::protocol::Protocol;
use crate::transport::Endpoint;

/// Opens `count` connections, each subscribed to the filters that its number gives. Needs a
/// `LocalSet` around it.
pub async fn gather<P: Protocol>(
    endpoint: &Endpoint,
    new: impl Fn() -> P + Copy + 'static,
    count: usize,
    filters: impl Fn(usize) -> Vec<String> + Copy + 'static,
) -> Result<Vec<Link<P>>> {
    let next = Rc::new(Cell::new(0));
    let links = Rc::new(RefCell::new(Vec::with_capacity(count)));
    let mut workers = Vec::new();
    for _ in 0..AT_ONCE.min(count) {
        let (next, links, endpoint) = (next.clone(), links.clone(), endpoint.clone());
        workers.push(tokio::task::spawn_local(async move {
            while next.get() < count {
                let index = next.replace(next.get() + 1);
                let id = format!("device{index}");
                let mut link = Link::open(&endpoint, new(), &id, INPUT_SIZE).await?;
                for filter in filters(index) {
                    link.subscribe(&filter).await?;
                }
                link.reset_on_close()?;
                link.shrink();
                links.borrow_mut().push(link);
            }
            anyhow::Ok(())
        }));
    }
    for worker in workers {
        worker.await.context("a connecting task died")??;
    }
    Ok(Rc::into_inner(links).context("a connecting task lives on")?.into_inner())
}

/// Handshakes that are under way at once.
const AT_ONCE: usize = 64;
/// Enough for every answer of a handshake.
const INPUT_SIZE: usize = 2048;
