//! A node that hangs: SIGSTOP and SIGCONT.

use crate::load::{Loaded, PATIENCE};
use std::{thread::sleep, time::Duration};
use tests::{FreshnessWatch, is_soak, my_turn};

#[test]
fn a_node_that_hung_never_answers_with_old_data_and_catches_up() {
    let _turn = my_turn();
    let loaded = Loaded::start(6, &[]);
    for _ in 0..if is_soak() { 20 } else { 2 } {
        let victim = loaded.cluster.busiest(1);
        let node = loaded.cluster.client(victim);
        let watch = FreshnessWatch::start(&node, "written", loaded.writer.shared_ledger());
        watch.wait_fresh(0, PATIENCE);
        loaded.cluster.signal(victim, libc::SIGSTOP);
        // Long enough for the others to elect: the hang itself is the subject.
        sleep(Duration::from_secs(4));
        loaded.wait_acknowledged("writes go on without the node that hangs");
        loaded.cluster.signal(victim, libc::SIGCONT);
        let before = watch.fresh();
        loaded.cluster.wait_node_ready(victim, PATIENCE);
        loaded.wait_acknowledged("writes go on with it");
        watch.wait_fresh(before, PATIENCE);
        let watched = watch.stop();
        assert_eq!(
            watched.stale, [""; 0],
            "default answers without what was acknowledged before the question"
        );
    }
    let _verified = loaded.verify();
}
