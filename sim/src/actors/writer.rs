//! A remote writer: one batch after the other, each sent again, to whichever node, until it is acknowledged or given
//! up. What is not acknowledged may be there or not, for ever.

use super::http::ask;
use crate::{dice::Dice, entropy::EPOCH_MS, ledger::Ledger, net::SimNet, sometimes, trace};
use prost::Message;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The parts of remote write 1.0 that a sender needs (`prompb/remote.proto`).
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }
}

const HEAD: &str = "POST /api/v1/write HTTP/1.0\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
                    X-Prometheus-Remote-Write-Version: 0.1.0\r\n";

/// What a writer is told.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its number; in its labels.
    pub writer: usize,
    /// Series of each batch.
    pub series: usize,
    /// Length of a label of one series more in each batch, which is never judged: so that logs fill up.
    pub ballast: usize,
    /// Time between batches, at least.
    pub interval: Duration,
    /// Web addresses of the nodes.
    pub nodes: Vec<String>,
}

/// The name of a written series in the ledger, and its label `s`.
#[must_use]
pub fn series_name(writer: usize, series: usize) -> String {
    format!("w{writer}-{series}")
}

/// The body that is sent, and its size before it was compressed.
fn encode(batch: &[(String, i64, f64)], writer: usize, ballast: Option<String>) -> (Vec<u8>, u64) {
    let label = |name: &str, value: String| proto::Label { name: name.to_owned(), value };
    let timeseries = batch.iter().map(|(name, timestamp, value)| proto::TimeSeries {
        labels: vec![
            label("__name__", "sim_written".to_owned()),
            label("instance", format!("w{writer}")),
            label("job", "sim".to_owned()),
            label("s", name.clone()),
        ],
        samples: vec![proto::Sample { value: *value, timestamp: *timestamp }],
    });
    let heavy = ballast.map(|pad| proto::TimeSeries {
        labels: vec![label("__name__", "sim_ballast".to_owned()), label("pad", pad)],
        samples: vec![proto::Sample { value: 1.0, timestamp: batch.first().map_or(0, |(_, at, _)| *at) }],
    });
    let request = proto::WriteRequest { timeseries: timeseries.chain(heavy).collect() };
    let plain = request.encode_to_vec();
    let compressed = snap::raw::Encoder::new().compress_vec(&plain);
    (compressed.expect("a request is far below snappy's limit"), plain.len() as u64)
}

/// Offers one batch to one node once; whether it was acknowledged. What a healed world owes everybody.
pub async fn write_once(net: &SimNet, ledger: &Mutex<Ledger>, node: &str, writer: usize) -> bool {
    let ledger = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let timestamp = EPOCH_MS + trace::now().as_millis() as i64;
    let batch = [(series_name(writer, 0), timestamp, timestamp as f64)];
    let (body, plain_bytes) = encode(&batch, writer, None);
    {
        let mut ledger = ledger();
        ledger.offered_bytes += plain_bytes;
        let [(name, ..)] = &batch;
        ledger.written.entry(name.clone()).or_default().offered.insert(timestamp, timestamp as f64);
    }
    let answer = ask(net, node, HEAD, &body, Duration::from_secs(8)).await;
    let acknowledged = answer.is_ok_and(|answer| answer.status / 100 == 2);
    if acknowledged {
        acknowledge(&mut ledger(), &batch);
    }
    acknowledged
}

fn acknowledge(ledger: &mut Ledger, batch: &[(String, i64, f64)]) {
    ledger.work.acknowledged += batch.len() as u64;
    for (name, timestamp, value) in batch {
        ledger.written.entry(name.clone()).or_default().owed.insert(*timestamp, *value);
    }
}

/// Writes for ever.
pub async fn run(net: SimNet, ledger: Arc<Mutex<Ledger>>, dice: Dice, task: Task) {
    let ledger = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let mut serial = 0_u64;
    loop {
        tokio::time::sleep(task.interval + dice.millis(0, task.interval.as_millis() as u64)).await;
        serial += 1;
        let timestamp = EPOCH_MS + trace::now().as_millis() as i64;
        let batch: Vec<(String, i64, f64)> = (0..task.series)
            .map(|series| {
                (series_name(task.writer, series), timestamp, (serial * 1000 + series as u64) as f64)
            })
            .collect();
        for (name, timestamp, value) in &batch {
            ledger().written.entry(name.clone()).or_default().offered.insert(*timestamp, *value);
        }
        let text = format!("{:016x}", dice.next());
        let ballast = (task.ballast > 0).then(|| text.repeat(task.ballast / text.len()));
        let (body, plain_bytes) = encode(&batch, task.writer, ballast);
        ledger().offered_bytes += plain_bytes;
        for _attempt in 0..8 {
            let node = dice.pick(&task.nodes);
            // A node gives up after 5 s: some still hear what it then says, some are gone.
            let seconds = if task.ballast > 0 { 8 } else { *dice.pick(&[1, 3, 8]) };
            let patience = Duration::from_secs(seconds);
            let answer = ask(&net, node, HEAD, &body, patience).await;
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            if status / 100 == 2 {
                acknowledge(&mut ledger(), &batch);
                break;
            }
            ledger().work.unacknowledged += 1;
            let crowded = task.ballast > 0 && status == 503;
            sometimes::happened("a write was refused under overload", crowded.into());
            if status / 100 == 4 {
                let text = answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
                let text = format!(
                    "writer {} refused with {status} by {node}: {}",
                    task.writer,
                    text.unwrap_or_default()
                );
                trace::say(&text);
                // Where clocks are wrong, the present may be too far in the future.
                if !ledger().excuses.clocks {
                    ledger().violate("O9", text);
                }
                break;
            }
            tokio::time::sleep(dice.millis(50, 500)).await;
        }
    }
}
