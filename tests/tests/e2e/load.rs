//! What runs on a cluster while something is done to it, and what is looked at afterwards.

use std::time::Duration;
use tests::{
    Client, Cluster, ClusterOptions, Ledger, SlotReport, Targets, Writer, WriterOptions, account_slots,
    equal_hashes, is_soak, now_ms, same_bytes, samples, wait_until,
};

/// Patience with anything that a healthy cluster does in seconds: test machines are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A remote writer's load: 20,000 samples a second in the long run, 2,000 else.
pub(crate) fn load() -> WriterOptions {
    let metric = "written".to_owned();
    if is_soak() {
        return WriterOptions { metric, instances: 20, series: 100, interval: Duration::from_millis(100) };
    }
    WriterOptions { metric, instances: 8, series: 50, interval: Duration::from_millis(200) }
}

/// A configuration that scrapes `targets` every second as the job `counted`.
pub(crate) fn every_second(targets: &Targets) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: counted\n  static_configs:\n  - targets: {}\n",
        targets.yaml_list()
    )
}

/// A cluster with this configuration and further flags.
pub(crate) fn options(config: String, flags: &[&str]) -> ClusterOptions {
    let mut options = ClusterOptions { config, ..ClusterOptions::default() };
    options.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    options
}

/// Three nodes, targets at one second, and a writer that has been acknowledged on every node's behalf.
pub(crate) struct Loaded {
    pub(crate) cluster: Cluster,
    pub(crate) targets: Targets,
    pub(crate) writer: Writer,
    pub(crate) began: i64,
}

impl Loaded {
    pub(crate) fn start(targets: usize, flags: &[&str]) -> Loaded {
        let targets = Targets::start(targets);
        let cluster = Cluster::start(options(every_second(&targets), flags));
        let began = now_ms();
        let writer = Writer::start(&cluster.clients(), load());
        let loaded = Loaded { cluster, targets, writer, began };
        loaded.wait_acknowledged("writes begin");
        loaded.wait_scraped();
        loaded
    }

    /// Waits until every writer is acknowledged again.
    pub(crate) fn wait_acknowledged(&self, what: &str) {
        let now = now_ms();
        wait_until(what, PATIENCE, || self.writer.acknowledged_since(now));
    }

    /// Waits until every target has been scraped a few times.
    pub(crate) fn wait_scraped(&self) {
        let before: Vec<_> = (0..self.targets.len()).map(|i| self.targets.scrapes(i).len()).collect();
        wait_until("every target is scraped", PATIENCE, || {
            let late = (0..before.len()).filter(|i| self.targets.scrapes(*i).len() < before[*i] + 3).count();
            if late == 0 { Ok(()) } else { Err(format!("{late} targets are not")) }
        });
    }

    /// Stops the writer, demands healing, and looks everything up on every node.
    pub(crate) fn verify(self) -> Verified {
        let options = self.writer.options().clone();
        self.wait_scraped();
        self.cluster.wait_ready(PATIENCE);
        self.cluster.wait_status(1, true, PATIENCE);
        let ledger = self.writer.stop();
        let nodes = self.cluster.clients();
        nodes.iter().for_each(|node| nothing_is_lost(&ledger, node, &options));
        wait_until("state hashes are equal", PATIENCE, || equal_hashes(&nodes[0]));
        let to = now_ms() - 3_000;
        let slots: Vec<_> =
            self.targets.addresses().iter().map(|a| slots(&nodes[0], a, self.began, to)).collect();
        let queries = ["sum by (instance) (rate(served_total[10s]))", "up", "written{series=\"s00003\"}"];
        same_bytes(&nodes, &queries, self.began, to).expect("the same answer from every node");
        Verified { ledger, slots }
    }
}

/// What was seen afterwards.
pub(crate) struct Verified {
    pub(crate) ledger: Ledger,
    pub(crate) slots: Vec<SlotReport>,
}

impl Verified {
    /// The longest hole in any target's samples.
    pub(crate) fn hole(&self) -> Duration {
        self.slots.iter().map(|report| report.hole).max().unwrap_or_default()
    }
}

pub(crate) fn nothing_is_lost(ledger: &Ledger, node: &Client, options: &WriterOptions) {
    let check = wait_until("the ledger can be read back", PATIENCE, || ledger.check(node, options));
    assert!(check.acknowledged > 0, "something was acknowledged");
    assert_eq!(check.lost, 0, "of {} acknowledged samples, at {}", check.acknowledged, node.base);
}

/// Every slot of a target is in the data once, or in the gaps.
pub(crate) fn slots(node: &Client, instance: &str, from: i64, to: i64) -> SlotReport {
    let report = wait_until(&format!("slots of {instance} have a sample or a gap"), PATIENCE, || {
        let report = account_slots(node, instance, 1_000, from, to)?;
        assert_eq!(report.doubled, [0; 0], "slots of {instance} that are there twice: {report:?}");
        if report.unexplained.is_empty() { Ok(report) } else { Err(format!("{report:?}")) }
    });
    wait_until(&format!("{instance} is scraped to the end"), PATIENCE, || {
        let now = now_ms();
        let found = samples(node, &format!("up{{instance=\"{instance}\"}}"), now - 8_000, now)?;
        if found.is_empty() { Err("it is not".to_owned()) } else { Ok(()) }
    });
    report
}
