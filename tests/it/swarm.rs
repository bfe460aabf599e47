//! A small swarm: many nodes at once are deployed and freed, again and again, and the coordinator keeps its size.

use piseduce_tests::swarm::{self, Options};
use std::time::Duration;

/// What a coordinator with twenty nodes must never need, in MiB: a fifth of what a thousand agents may take, and the
/// program itself.
const MEMORY_MIB: f64 = 80.0;

#[test]
fn a_swarm_is_deployed_and_freed_again_and_again_and_the_coordinator_keeps_its_size() {
    let options = Options { nodes: 20, rounds: 2, work: Duration::ZERO, batch: 7 };
    let report = swarm::run(options, &|_| ()).unwrap();
    assert!(report.bad().is_empty(), "{}", report.table());
    assert_eq!((report.rounds.len(), report.rounds[1].restarts), (2, 0), "{}", report.table());
    assert_eq!(report.linked.as_ref().map(|linked| linked.agents), Some(20), "{}", report.table());
    assert!(report.faults.values().all(|count| *count == 0), "{:?}", report.faults);
    assert!(report.answer_errors == 0 && report.peak_mib < MEMORY_MIB, "{}", report.table());
}
