//! What must hold after a script, whatever was in it.

use super::{METRIC, PATIENCE, Played, Stage};
use crate::{Client, account_slots, equal_hashes, now_ms, same_bytes, within};
use screenplay::{Event, Fault};
use serde_json::Value;
use std::time::Duration;

/// Slots that are so young may still be on their way.
const SETTLING_MS: i64 = 3_000;

/// Waits until every node is ready, every shard has a leader, and one more node may be lost.
pub(super) fn whole(clients: &[Client], patience: Duration) -> Result<(), String> {
    for client in clients {
        within(&format!("{} is ready", client.base), patience, || match client.get("/-/ready", &[])? {
            answer if answer.status == 200 => Ok(()),
            answer => Err(format!("{answer:?}")),
        })?;
        within(&format!("the cluster is well, asked at {}", client.base), patience, || {
            let status = client.status()?;
            let led = status["shards"].as_array().is_some_and(|shards| {
                !shards.is_empty() && shards.iter().all(|shard| !shard["leader"].is_null())
            });
            let may = status["mayLoseAnotherNode"] == Value::Bool(true);
            if led && may { Ok(()) } else { Err(status.to_string()) }
        })?;
    }
    Ok(())
}

impl Stage {
    /// Demands healing, looks everything up, and says what is broken, beside what was already.
    pub(super) fn judge(
        mut self,
        events: &[Event],
        mut broken: Vec<String>,
        played: &mut Played,
    ) -> Vec<String> {
        let mut hold = |held: Result<(), String>| held.unwrap_or_else(|text| broken.push(text));
        hold(self.hosts.as_client(|| whole(&self.clients, PATIENCE)));
        let healed = now_ms();
        hold(within("writes go on", PATIENCE, || self.writer.acknowledged_since(healed)));
        hold(within("every target is scraped again", PATIENCE, || {
            let late = |i: &usize| self.targets.scrapes(*i).last().is_none_or(|at| *at < healed);
            let late = (0..self.targets.len()).filter(late).count();
            if late == 0 { Ok(()) } else { Err(format!("{late} are not")) }
        }));
        for (reader, watch) in self.watches.drain(..).enumerate() {
            hold(within(&format!("reader {reader} has an answer"), PATIENCE, || match watch.fresh() {
                0 => Err("never yet".to_owned()),
                _ => Ok(()),
            }));
            let watched = watch.stop();
            played.answers.0 += watched.fresh;
            played.answers.1 += watched.refused;
            watched.stale.into_iter().for_each(|text| hold(Err(format!("a stale answer: {text}"))));
        }
        let options = self.writer.options().clone();
        let ledger = self.writer.stop();
        let (clients, targets) = (&self.clients, &self.targets);
        let clocks_were_wrong =
            events.iter().any(|event| matches!(event.fault, Fault::ClockStep | Fault::ClockDrift));
        self.hosts.as_client(|| {
            for client in clients {
                let check = within("the ledger is read back", PATIENCE, || ledger.check(client, &options));
                hold(check.and_then(|check| match (check.acknowledged, check.lost) {
                    (0, _) => Err("nothing was acknowledged".to_owned()),
                    (all, 0) => {
                        played.acknowledged = all;
                        Ok(())
                    }
                    (all, lost) => {
                        Err(format!("{lost} of {all} acknowledged samples are lost at {}", client.base))
                    }
                }));
            }
            hold(within("state hashes are equal", PATIENCE, || equal_hashes(&clients[0])));
            let to = now_ms() - SETTLING_MS;
            for address in targets.addresses() {
                // A slot is a slot of the clock of whoever scrapes: with wrong clocks there is no telling.
                if clocks_were_wrong {
                    break;
                }
                // A row or a record may be on its way; a slot that is there twice stays so.
                let slots = within(&format!("slots of {address} have a sample or a gap"), PATIENCE, || {
                    let slots = account_slots(&clients[0], address, 1_000, self.began, to)?;
                    let settled = slots.unexplained.is_empty() || !slots.doubled.is_empty();
                    if settled { Ok(slots) } else { Err(format!("{slots:?}")) }
                });
                hold(slots.and_then(|slots| {
                    played.slots.0 += slots.scraped;
                    played.slots.1 += slots.missed;
                    let good = slots.doubled.is_empty();
                    if good { Ok(()) } else { Err(format!("slots of {address}: {slots:?}")) }
                }));
            }
            let queries = ["up", "sum by (instance) (rate(served_total[10s]))", METRIC];
            hold(same_bytes(clients, &queries, self.began, to));
        });
        for machine in &mut self.machines {
            hold(machine.stop());
            for line in machine.log().lines().filter(|line| line.contains("panicked at")) {
                hold(Err(format!("a panic: {line}")));
            }
        }
        broken
    }
}
