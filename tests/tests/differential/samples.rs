//! What both sides are given: like node_exporter's series, histograms, counters with resets, gaps, stale markers, odd
//! values; and small copies of the data of Prometheus's own benchmarks.

use crate::{histograms, random::Random};
use tests::{WriteMixedSeries, encode_mixed_write};

/// Time between two samples, milliseconds.
pub(crate) const INTERVAL: i64 = 15_000;
/// Samples of a series without gaps.
pub(crate) const STEPS: i64 = 360;

/// Samples off the grid are this late, milliseconds.
pub(crate) const OFF: i64 = 137;
/// How many samples of each series a request carries.
const PART: usize = 30;

/// Prometheus's stale marker.
pub(crate) const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Builds series.
pub(crate) struct Series {
    pub(crate) all: Vec<WriteMixedSeries>,
    pub(crate) start: i64,
    pub(crate) random: Random,
}

/// `{a="b",c="d"}`, with `name`, sorted.
pub(crate) fn labels(name: &str, pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut labels: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    labels.push(("__name__".to_owned(), name.to_owned()));
    labels.sort();
    labels
}

impl Series {
    /// A series whose `value` may leave steps out.
    pub(crate) fn add(
        &mut self,
        name: &str,
        pairs: &[(&str, &str)],
        mut value: impl FnMut(i64, &mut Random) -> Option<f64>,
    ) {
        let samples = (0..STEPS)
            .filter_map(|step| value(step, &mut self.random).map(|v| (self.start + step * INTERVAL, v)));
        let samples = samples.collect();
        self.all.push((labels(name, pairs), samples, Vec::new()));
    }

    /// A counter that grows by up to `most` a step, falls to zero at each of `resets`, and is missing within `gap`.
    fn counter(
        &mut self,
        name: &str,
        pairs: &[(&str, &str)],
        most: f64,
        resets: &[i64],
        gap: std::ops::Range<i64>,
    ) {
        let mut total = 0.0;
        self.add(name, pairs, |step, random| {
            total = if resets.contains(&step) { 0.0 } else { total + random.fraction() * most };
            (!gap.contains(&step)).then_some(total)
        });
    }

    fn nodes(&mut self) {
        for (i, instance) in ["a:9100", "b:9100", "c:9100"].into_iter().enumerate() {
            let resets: &[i64] = if i == 1 { &[100, 101, 250] } else { &[] };
            let gap = if i == 2 { 120..160 } else { 0..0 };
            for cpu in ["0", "1"] {
                for mode in ["idle", "user", "system"] {
                    let pairs = [("instance", instance), ("job", "node"), ("cpu", cpu), ("mode", mode)];
                    self.counter("node_cpu_seconds_total", &pairs, 15.0, resets, gap.clone());
                }
            }
            let pairs = [("instance", instance), ("job", "node")];
            self.add("node_load1", &pairs, |_, random| Some((random.fraction() * 800.0).round() / 100.0));
            self.add("node_memory_MemFree_bytes", &pairs, |step, random| {
                (step % 7 != 3 || i != 1).then(|| (random.fraction() * 8e9).floor())
            });
            self.add("up", &pairs, |step, _| {
                Some(if i == 2 && (120..160).contains(&step) { 0.0 } else { 1.0 })
            });
            self.add("node_time_seconds", &pairs, |step, _| Some((step * 15) as f64 + i as f64 / 8.0));
            for (device, mount) in [("/dev/sda1", "/"), ("/dev/sdb1", "/data")] {
                let pairs =
                    [("instance", instance), ("job", "node"), ("device", device), ("mountpoint", mount)];
                self.add("node_filesystem_avail_bytes", &pairs, |step, _| {
                    Some(5e10 - step as f64 * 1e6 * (i + 1) as f64)
                });
                self.add("node_filesystem_size_bytes", &pairs, |_, _| Some(1e11));
            }
            let name = ["alpha", "beta", "gamma"][i];
            let pairs = [("instance", instance), ("job", "node"), ("nodename", name)];
            self.add("node_uname_info", &pairs, |_, _| Some(1.0));
        }
    }

    fn requests(&mut self) {
        for (i, instance) in ["a:80", "b:80"].into_iter().enumerate() {
            for code in ["200", "404", "500"] {
                for method in ["get", "post"] {
                    let pairs = [("instance", instance), ("job", "api"), ("code", code), ("method", method)];
                    // Those that fail come and go, with a stale marker at the end of each visit.
                    let mut total = 0.0;
                    self.add("http_requests_total", &pairs, |step, random| {
                        total += (random.fraction() * 30.0).floor();
                        match step % 90 {
                            60 if code == "500" => Some(f64::from_bits(STALE)),
                            61..90 if code == "500" => None,
                            _ => Some(total),
                        }
                    });
                }
            }
            let bounds = ["0.1", "0.5", "1", "5", "+Inf"];
            let mut counts = vec![[0.0; 5]; STEPS as usize];
            for step in 0..STEPS as usize {
                let reset = i == 1 && step == 200;
                let mut below = 0.0;
                let before = if step == 0 || reset { [0.0; 5] } else { counts[step - 1] };
                for (count, before) in counts[step].iter_mut().zip(before) {
                    below += (self.random.fraction() * 9.0).floor();
                    *count = before + below;
                }
            }
            for (bound, le) in bounds.into_iter().enumerate() {
                let pairs = [("instance", instance), ("job", "api"), ("le", le)];
                self.add("http_request_duration_seconds_bucket", &pairs, |step, _| {
                    Some(counts[step as usize][bound])
                });
            }
            let pairs = [("instance", instance), ("job", "api")];
            self.add("http_request_duration_seconds_count", &pairs, |step, _| Some(counts[step as usize][4]));
            self.add("http_request_duration_seconds_sum", &pairs, |step, _| {
                Some(counts[step as usize][3] * 0.75)
            });
        }
    }

    /// Values that are not simply numbers.
    fn odd(&mut self) {
        let values =
            [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 5e-324, 1e-7, -3.5, 1e21];
        for (i, place) in ["north", "south"].into_iter().enumerate() {
            self.add("odd", &[("place", place)], |step, _| {
                Some(values[(step as usize * (i + 3)) % values.len()])
            });
            self.add("temperature_celsius", &[("place", place)], |step, random| {
                (!random.one_in(4)).then(|| (step as f64 / 20.0).sin() * 30.0 * (i + 1) as f64)
            });
        }
        self.add("requests.of the day", &[("x.y", "\u{e9}\u{1f600}")], |step, _| Some(step as f64));
        for (l, m) in [("1", "a"), ("2", "a"), ("10", "b"), ("", "b")] {
            let pairs = [("l", l), ("m", m)];
            let pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            self.add("tied", &pairs, |step, _| Some((step / 40 % 3) as f64));
        }
        let once = |at: i64, value: f64| move |step: i64, _: &mut Random| (step == at).then_some(value);
        self.add("once", &[("when", "early")], once(10, 3.0));
        self.add("once", &[("when", "late")], once(330, 4.0));
    }

    /// The benchmarks' data, less of it.
    fn benchmark(&mut self) {
        let mut i = 0.0;
        let mut rising = |series: &mut Series, name: &str, pairs: &[(&str, &str)]| {
            i += 1.0;
            let fraction = i / 1443.0;
            series.add(name, pairs, |step, _| Some(step as f64 + fraction));
        };
        let bounds = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "+Inf"];
        rising(self, "a_one", &[]);
        rising(self, "b_one", &[]);
        bounds.iter().for_each(|le| rising(self, "h_one", &[("le", le)]));
        for l in &bounds[..10] {
            rising(self, "a_ten", &[("l", l)]);
            rising(self, "b_ten", &[("l", l)]);
            bounds.iter().for_each(|le| rising(self, "h_ten", &[("l", l), ("le", le)]));
        }
        for l in 0..8 {
            let text = l.to_string();
            self.add("sparse", &[("l", &text)], |step, _| (step / 50 == l).then_some(step as f64 / 1443.0));
        }
        for instance in 0..16 {
            let text = format!("{instance:x}7d1");
            let pairs = [("instance", text.as_str()), ("job", "worker"), ("environment", "staging")];
            rising(self, "rpc_request_success_total", &pairs);
            rising(self, "rpc_request_error_total", &pairs);
        }
        for n in 0..4 {
            let (instance, job) = (format!("instance{n}"), format!("job{n}"));
            let cluster = if n % 2 == 0 { "us-east" } else { "eu-south" };
            let pairs = [("instance", instance.as_str()), ("job", &job), ("k8s_cluster_name", cluster)];
            self.add("target_info", &pairs, |_, _| Some(1.0));
        }
        for code in ["200", "400", "500"] {
            let pairs = [("instance", "instance0"), ("job", "job0"), ("http_status_code", code)];
            rising(self, "http_server_request_duration_seconds_count", &pairs);
        }
    }
}

/// All series, sorted; the first sample is at `start` milliseconds.
///
/// Prometheus keeps series in the order in which it first saw them, and what is the first among equals, or added up
/// first, follows from that. So each has a sample in the first part, if only a stale marker.
fn series(start: i64) -> Vec<WriteMixedSeries> {
    let mut series = Series { all: Vec::new(), start, random: Random::new(42, 0) };
    series.nodes();
    series.requests();
    series.odd();
    series.benchmark();
    histograms::add(&mut series);
    let mut all = series.all;
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, samples, histograms) in &mut all {
        let first =
            samples.first().map(|(time, _)| *time).into_iter().chain(histograms.first().map(|h| h.timestamp));
        if first.min().is_some_and(|time| time > start) {
            samples.insert(0, (start, f64::from_bits(STALE)));
        }
    }
    all
}

/// Remote writes that carry all series from `start` milliseconds on, half of them off the grid of evaluation times.
pub(crate) fn bodies(start: i64) -> Vec<Vec<u8>> {
    let mut series = series(start);
    for (_, samples, histograms) in series.iter_mut().skip(1).step_by(2) {
        samples.iter_mut().for_each(|(time, _)| *time += OFF);
        histograms.iter_mut().for_each(|h| h.timestamp += OFF);
    }
    let parts = (0..STEPS).step_by(PART).map(|step| start + step * INTERVAL);
    let length = INTERVAL * i64::try_from(PART).expect("a constant");
    parts.map(|from| encode_mixed_write(&part(&series, from, from + length))).collect()
}

/// Those samples of `series` that are in `[from, until)`.
fn part(series: &[WriteMixedSeries], from: i64, until: i64) -> Vec<WriteMixedSeries> {
    let part = from..until;
    let parts = series.iter().map(|(labels, samples, histograms)| {
        let samples = samples.iter().copied().filter(|(time, _)| part.contains(time)).collect::<Vec<_>>();
        let histograms =
            histograms.iter().filter(|h| part.contains(&h.timestamp)).cloned().collect::<Vec<_>>();
        (labels.clone(), samples, histograms)
    });
    parts.filter(|(_, samples, histograms)| !samples.is_empty() || !histograms.is_empty()).collect()
}
