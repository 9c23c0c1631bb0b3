//! Bodies of targets: all formats, into the memory of a target that is scraped twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scrape::{bench::SteadyTarget, exposition::BodyFormat};

fuzz_target!(|data: &[u8]| {
    let [format, body @ ..] = data else { return };
    let format = match format % 3 {
        0 => BodyFormat::PrometheusText,
        1 => BodyFormat::OpenMetricsText,
        _ => BodyFormat::Protobuf,
    };
    let mut target = SteadyTarget::new();
    let first = target.scrape_as(body, format);
    let second = target.scrape_as(body, format);
    assert_eq!(first, second, "the same body gives the same row");
});
