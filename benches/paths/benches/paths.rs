//! How long a message takes on each path: `make paths`, or `make paths PATHS=route-1-1` for
//! those whose name has that in it.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use fastport_paths::Path;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for path in fastport_paths::all() {
        time(&mut criterion, path);
    }
    criterion.final_summary();
}

fn time(criterion: &mut Criterion, path: Path) {
    let mut group = criterion.benchmark_group(path.group());
    group.throughput(Throughput::Elements(path.make().messages()));
    group.bench_function(path.name, |bencher| {
        // set up here: criterion calls this only for paths that its filter selects
        let mut work = path.make();
        work.verify();
        let mut rounds = 0;
        bencher.iter(|| {
            work.round();
            rounds += 1;
        });
        work.check(rounds);
    });
    group.finish();
}
