//! What many worlds were like together, and whether enough happened in them to count.

use screenplay::Fault;
use serde_json::{Value, json};
use sim::{point_names::POINTS, scenario::Scenario, sometimes::SOMETIMES, world::Report};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A report as the process of a world hands it on.
pub(crate) fn as_json(report: &Report, scenario: &Scenario) -> Value {
    json!({
        "scenario": scenario.name,
        "simulated_ms": report.simulated.as_millis() as u64,
        "faults": report.faults,
        "points": report.points,
        "deaths": report.deaths,
        "sometimes": report.sometimes,
        "acknowledged": report.work.acknowledged,
        "unacknowledged": report.work.unacknowledged,
        "answers": report.work.answers,
        "unanswered": report.work.unanswered,
        "compared": report.work.compared,
        "analysed": report.work.analysed,
        "scrapes": report.work.scrapes,
        "terms": report.terms,
        "hashes": report.hashes,
        "asked": report.asked,
        "bytes": report.net.bytes,
        "net_digest": format!("{:016x}", report.net.digest),
        "trace_lines": report.trace.0,
        "trace_digest": format!("{:016x}", report.trace.1),
    })
}

type Counts = BTreeMap<String, u64>;

/// What every batch must have done for its verdict to mean anything: the number in a report, and what it is.
const DONE: [(&str, &str); 4] = [
    ("answers", "answers to default queries"),
    ("compared", "samples compared"),
    ("analysed", "aggregations and functions judged"),
    ("hashes", "hashes compared"),
];

/// Sums of many reports.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    numbers: Counts,
    faults: Counts,
    points: Counts,
    deaths: Counts,
    sometimes: Counts,
    scenarios: Counts,
}

fn add(to: &mut Counts, from: &Value) {
    for (name, count) in from.as_object().into_iter().flatten() {
        if let Some(count) = count.as_u64() {
            *to.entry(name.clone()).or_default() += count;
        }
    }
}

fn list(counts: &Counts) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

impl Sums {
    pub(crate) fn add(&mut self, report: &Value) {
        add(&mut self.numbers, report);
        add(&mut self.faults, &report["faults"]);
        add(&mut self.points, &report["points"]);
        add(&mut self.deaths, &report["deaths"]);
        add(&mut self.sometimes, &report["sometimes"]);
        *self.scenarios.entry(report["scenario"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }

    fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// How often code asked for the planted bug that is awake.
    pub(crate) fn asked(&self) -> u64 {
        self.number("asked")
    }

    /// What should have happened and did not: what every batch does, the faults of the scenarios that ran, a plug that
    /// was really pulled where they arm any and, in a batch over all scenarios, the named points and the paths that
    /// must be taken sometimes: no scenario alone shows all of these.
    pub(crate) fn missing(&self, scenarios: &[&Scenario], mixed: bool) -> Vec<String> {
        let faults: BTreeSet<Fault> =
            scenarios.iter().flat_map(|scenario| scenario.faults).copied().collect();
        let undone =
            DONE.iter().filter(|(name, _)| self.number(name) == 0).map(|(_, what)| (*what).to_owned());
        let unpulled = faults.contains(&Fault::Point) && self.deaths.is_empty();
        let unpulled = unpulled.then(|| "plug pulled at a named point".to_owned());
        let faults = faults.into_iter().map(Fault::name).filter(|name| !self.faults.contains_key(*name));
        let points = POINTS.iter().copied().filter(|name| mixed && !self.points.contains_key(*name));
        let paths = SOMETIMES.iter().copied().filter(|name| mixed && !self.sometimes.contains_key(*name));
        let named = |kind: &'static str| move |name: &str| format!("{kind} {name}");
        let faults = faults.map(named("fault"));
        let named = faults.chain(points.map(named("point"))).chain(paths.map(named("path:")));
        undone.chain(unpulled).chain(named).collect()
    }

    pub(crate) fn print(&self, real: Duration) {
        let simulated = self.number("simulated_ms") as f64 / 1000.0;
        if self.scenarios.len() > 1 {
            println!("scenarios: {}", list(&self.scenarios));
        }
        println!("faults: {}", list(&self.faults));
        println!("plug pulled at: {}", list(&self.deaths));
        println!("paths: {}", list(&self.sometimes));
        let reached = POINTS.iter().filter(|point| self.points.contains_key(**point)).count();
        let deadly = POINTS.iter().filter(|point| self.deaths.contains_key(**point)).count();
        println!("named points reached: {reached} of {}, places of death: {deadly}", POINTS.len());
        println!(
            "samples acknowledged {}, writes not acknowledged {}, answers {}, not answered {}, samples compared {}, \
             analysed {}, hashes compared {}, terms {}, scrapes {}",
            self.number("acknowledged"),
            self.number("unacknowledged"),
            self.number("answers"),
            self.number("unanswered"),
            self.number("compared"),
            self.number("analysed"),
            self.number("hashes"),
            self.number("terms"),
            self.number("scrapes"),
        );
        println!(
            "simulated {:.2} h in {:.1} s, {:.0} x real time",
            simulated / 3600.0,
            real.as_secs_f64(),
            simulated / real.as_secs_f64().max(0.001)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Sums;
    use serde_json::json;
    use sim::{point_names::POINTS, scenario::find, sometimes::SOMETIMES};

    #[test]
    fn a_batch_lacks_what_no_world_reached() {
        let scenario = find("wipe").expect("there is one");
        let mut sums = Sums::default();
        let points: serde_json::Map<_, _> =
            POINTS.iter().skip(1).map(|point| ((*point).to_owned(), json!(1))).collect();
        let done = |analysed: u64, deaths: serde_json::Value| {
            json!({
                "faults": { "wipe": 2, "kill": 1, "latency": 1, "point": 1, "slow-sync": 1 },
                "points": points, "deaths": deaths,
                "answers": 1, "compared": 1, "analysed": analysed, "hashes": 1,
            })
        };
        sums.add(&done(0, json!({})));
        let lacks = ["aggregations and functions judged", "plug pulled at a named point", "fault restart"];
        assert_eq!(sums.missing(&[scenario], false), lacks);
        sums.add(&done(1, json!({ "stop.begin": 1 })));
        assert_eq!(sums.missing(&[scenario], false), ["fault restart"]);
        let missing = sums.missing(&[scenario], true);
        assert_eq!(missing.len(), 2 + SOMETIMES.len());
        assert!(missing.contains(&format!("point {}", POINTS[0])));
    }
}
