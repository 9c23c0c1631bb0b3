//! Commands, answers, chunks and whole shards as they were written once: they are read for ever.

use super::fixture::{Fixture, scrape, select_from, writer};
use crate::{
    codec::{block, histograms},
    kv::MemDisk,
    shard::{
        DataCommand, DataResponse, DataShard, MissedSlots, Refusal, Rejection, RowResult, ShardSettings,
        checkpoint,
        chunk::{self, Chunk, ChunkHead, Column, Group},
        command::COMMAND_VERSION,
        segment::{CompactRow, SegmentHead},
        snapshot,
        wire::Reader,
    },
};
use bytes::Bytes;
use model::{
    ConfigVersion, CounterResetHint, CustomBounds, DurationMs, FloatHistogram, Histogram, Labels, RowKind,
    STALE_NAN, ShardId, SnapshotCheck, Span, StateMachine, Term, TimestampMs, Value,
    corpus::{self, Format, each, join, split},
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

const HOUR: i64 = 3_600_000;

fn histogram(count: u64) -> Value {
    Value::Histogram(Arc::new(Histogram {
        counter_reset_hint: CounterResetHint::NotReset,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 1,
        count,
        sum: 2.5,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        positive_deltas: vec![2, -1, 3],
        negative_deltas: vec![1],
        custom_values: CustomBounds::default(),
    }))
}

fn custom(count: f64) -> Value {
    Value::FloatHistogram(Arc::new(FloatHistogram {
        schema: -53,
        count,
        sum: 7.25,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.5, count - 1.5],
        custom_values: vec![0.5, 1.0].into(),
        ..FloatHistogram::default()
    }))
}

/// A row with every kind of value.
fn cells(at: i64) -> Vec<(Labels, Value)> {
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "node"), ("ä", "ü\n")]);
    vec![
        (labels("whole"), Value::Float(at as f64)),
        (labels("fraction"), Value::Float(at as f64 / 7.0)),
        (labels("constant"), Value::Float(-0.0)),
        (labels("special"), Value::Float(if at % 2 == 0 { f64::INFINITY } else { f64::NAN })),
        (labels("stale"), Value::Float(if at % 4 == 0 { STALE_NAN } else { 1.0 })),
        (labels("histogram"), histogram(7 + at as u64 % 5)),
        (labels("custom"), custom(3.0)),
    ]
}

fn commands() -> Vec<DataCommand> {
    let mut fixture = Fixture::new();
    let (term, source) = (Some(Term(4)), scrape("a:1"));
    let slot = RowKind::Whole { slot: TimestampMs(1_000) };
    let named = fixture.row_of(&source, slot, 1_002, cells(1_002));
    let first = fixture.segment(&[named], Some(1));
    fixture.apply(&first);
    let mut more = cells(2_000);
    more.push((Labels::from_pairs([("__name__", "newcomer")]), Value::Float(5.0)));
    let known = fixture.row_of(&source, RowKind::Whole { slot: TimestampMs(2_000) }, 2_000, more);
    let partial = fixture.row(&writer("w"), RowKind::Partial, 1_500, &[("written", 0.1)]);
    let second = fixture.segment(&[known, partial], None);
    let to_come = fixture.row(&scrape("b:1"), RowKind::Partial, 2_000, &[("to_come", 0.0), ("too", 0.0)]);
    let introduction = fixture.introduction(&to_come);
    let slots = MissedSlots {
        from: TimestampMs(3_000),
        to: TimestampMs(5_000),
        interval: DurationMs(1_000),
        reason: "no leader".into(),
    };
    vec![
        first,
        second,
        DataCommand::EndSource { term, source: source.clone(), at: TimestampMs(9_000) },
        DataCommand::Missed { term: None, source: writer("w"), slots },
        DataCommand::Settings(ShardSettings {
            version: ConfigVersion(3),
            out_of_order_window: DurationMs(60_000),
            retention_time: DurationMs(86_400_000),
            retention_bytes: 1 << 30,
            source_series_max: 1_000,
            series_max: 100_000,
        }),
        DataCommand::Retain { cutoff: TimestampMs(-5) },
        DataCommand::Checkpoint { time: TimestampMs(7_200_000) },
        introduction,
    ]
}

fn show_command(_: usize, bytes: &[u8]) -> Result<String, String> {
    let command = DataCommand::decode(&Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
    let DataCommand::Segment(bytes) = command else { return Ok(format!("{command:?}")) };
    let mut reader = Reader::new(&bytes);
    let head = SegmentHead::read(&mut reader).map_err(|error| error.to_string())?;
    let mut text = format!("{head:?}");
    for _ in 0..head.rows {
        let row = CompactRow::read(&mut reader, head.time).map_err(|error| error.to_string())?;
        text += &format!("\n  {row:?}");
    }
    Ok(text)
}

fn responses() -> Vec<DataResponse> {
    let result = RowResult {
        refused: None,
        applied: 3,
        rejected: BTreeMap::from([(Rejection::OutOfOrder, 2), (Rejection::Duplicate, 1)]),
        first_rejected: Some("out of order: {a=\"b\"} at 5".into()),
    };
    let refusals = [
        Refusal::OtherTerm { carried: Term(1), entry: Term(2) },
        Refusal::SlotTaken { slot: TimestampMs(5), last: TimestampMs(6) },
        Refusal::UnknownLayout { source_id: 3, layout: 4 },
        Refusal::UnknownSource,
        Refusal::OldSettings(ConfigVersion(2)),
        Refusal::OldCutoff(TimestampMs(3)),
        Refusal::Malformed("row".into()),
    ];
    let refused = |refusal: &Refusal| RowResult { refused: Some(refusal.clone()), ..RowResult::default() };
    let rows = std::iter::once(result).chain(refusals.iter().map(refused)).collect();
    let mut all = vec![DataResponse::Applied, DataResponse::Rows(rows)];
    all.extend(refusals.map(DataResponse::Refused));
    all
}

fn show_response(_: usize, bytes: &[u8]) -> Result<String, String> {
    let response = DataResponse::decode(&Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
    Ok(format!("{response:?}"))
}

/// A snapshot of a shard with everything: sealed and open windows, pieces, introduced series, missed slots, settings, a packed partition.
fn shard() -> Vec<u8> {
    let mut fixture = Fixture::new();
    let (scraped, written) = (scrape("a:1"), writer("w"));
    fixture.apply(&commands()[4]);
    for at in (0..100).map(|i| i * 120_000 + i % 3) {
        let row = fixture.row_of(&scraped, RowKind::Whole { slot: TimestampMs(at) }, at, cells(at));
        fixture.apply_rows(&[row]);
        fixture.written(&written, at, &[("written", at as f64 / 3.0)]);
    }
    let slots = MissedSlots {
        from: TimestampMs(12_000_000),
        to: TimestampMs(12_240_000),
        interval: DurationMs(120_000),
        reason: "no leader".into(),
    };
    fixture.apply(&DataCommand::Missed { term: None, source: scraped.clone(), slots });
    let timed = fixture.row(&scraped, RowKind::Partial, 11_880_001, &[("timed", 4.5)]);
    fixture.apply_rows(&[timed]);
    let to_come = fixture.row(&scraped, RowKind::Partial, 11_990_000, &[("to_come", 0.0)]);
    let introduction = fixture.introduction(&to_come);
    fixture.apply(&introduction);
    fixture.checkpoint(4 * HOUR);
    fixture.pack(4 * HOUR);
    let source = fixture.shard.open_snapshot().expect("a snapshot");
    let manifest = source.manifest();
    let sink = Fixture::new().shard.begin_install(manifest.clone()).expect("its manifest");
    let parts = sink.wanted().into_iter().map(|part| {
        let piece = source.read(part.part, &[], 1 << 24).expect("a part");
        assert_eq!(piece.next, None, "parts are small here");
        piece.data
    });
    join(std::iter::once(manifest).chain(parts))
}

fn show_shard(blob: &[u8]) -> Result<String, String> {
    let pieces = split(blob)?;
    let (manifest, parts) = pieces.split_first().ok_or("no manifest")?;
    let failed = |error: model::StateError| error.to_string();
    let engine = Arc::new(MemDisk::new());
    let shard = DataShard::open(ShardId(1), Path::new("/shard"), engine).map_err(failed)?;
    let mut sink = shard.begin_install(Bytes::copy_from_slice(manifest)).map_err(failed)?;
    for (wanted, part) in sink.wanted().into_iter().zip(parts) {
        sink.write(wanted.part, part, true).map_err(failed)?;
    }
    while sink.check().map_err(failed)? == SnapshotCheck::More {}
    let applied = sink.commit().map_err(failed)?;
    let gaps = shard.gaps(TimestampMs::MIN, TimestampMs::MAX);
    let samples = select_from(&shard.view(), ".+", i64::MIN, i64::MAX);
    Ok(format!("{applied:?}\n{:?}\n{gaps:?}\n{samples}\n", shard.settings()))
}

fn chunk() -> Vec<u8> {
    let head = ChunkHead { timestamps: vec![1_000, 16_000, 31_007], series: vec![7, 8, 9, 70] };
    let chunk = Chunk::build(head, true, |i, column| {
        *column = Column { float_rows: vec![0, 1, 2], floats: vec![i as f64, 2.5, 1e9], ..Column::default() };
        if i == 3 {
            *column = Column {
                float_rows: vec![1],
                floats: vec![f64::MIN_POSITIVE],
                histograms: vec![(0, histogram(7)), (2, custom(3.0))],
            };
        }
        Ok(())
    });
    let chunk = chunk.expect("builds");
    join(std::iter::once(Bytes::from(chunk.head.encode())).chain(chunk.groups))
}

fn show_chunk(blob: &[u8]) -> Result<String, String> {
    let pieces = split(blob)?;
    let (head, groups) = pieces.split_first().ok_or("no head")?;
    let head = ChunkHead::decode(head, 0).map_err(|error| error.to_string())?;
    let mut text = format!("{head:?}\n");
    let mut column = Column::default();
    for position in 0..head.series.len() {
        let group = Bytes::copy_from_slice(groups[position / chunk::GROUP]);
        let group = Group::open(&group).map_err(|error| error.to_string())?;
        let read = group.column(position % chunk::GROUP, head.timestamps.len(), &mut column);
        read.map_err(|error| error.to_string())?;
        text += &format!("{:?} {:?} {:?}\n", column.float_rows, column.floats, column.histograms);
    }
    Ok(text)
}

fn float_blocks() -> Vec<Vec<f64>> {
    vec![
        vec![3.0; 5],
        (0..70).map(|i| f64::from(i * i) / 100.0).collect(),
        (0..70).map(|i| f64::from(i) / 7.0).collect(),
        vec![1.0, f64::NAN, STALE_NAN, -0.0, f64::INFINITY, 1e300],
    ]
}

fn time_blocks() -> Vec<Vec<i64>> {
    vec![
        (0..70).map(|i| 1_700_000_000_000 + 15_000 * i).collect(),
        (0..70).map(|i| 1_700_000_000_000 + 15_000 * i + i % 7).collect(),
        vec![-5, 0, 1, 1_000_000, i64::MAX / 2],
    ]
}

/// A lead byte says what follows: `f` or `t`, and how many values.
fn blocks() -> Vec<u8> {
    let floats = float_blocks().into_iter().map(|values| {
        let mut out = vec![b'f', values.len() as u8];
        block::encode(&values, &mut out);
        out
    });
    let times = time_blocks().into_iter().map(|values| {
        let mut out = vec![b't', values.len() as u8];
        block::encode_timestamps(&values, &mut out);
        out
    });
    join(floats.chain(times))
}

fn show_block(_: usize, bytes: &[u8]) -> Result<String, String> {
    let (&[kind, count], body) = bytes.split_first_chunk().ok_or("no head")?;
    if kind == b't' {
        let mut times = Vec::new();
        block::decode_timestamps(body, count.into(), &mut times).map_err(|error| error.to_string())?;
        return Ok(format!("{times:?}"));
    }
    let mut floats = Vec::new();
    block::decode(body, count.into(), &mut floats).map_err(|error| error.to_string())?;
    let bits: Vec<String> = floats.iter().map(|float| format!("{:016x}", float.to_bits())).collect();
    Ok(bits.join(" "))
}

fn histogram_columns() -> Vec<u8> {
    let values = [histogram(7), histogram(9), custom(3.0), Value::Float(1.5), histogram(12)];
    let mut out = vec![values.len() as u8];
    histograms::encode(&values, &mut block::Encoder::default(), &mut out);
    out
}

fn show_histograms(blob: &[u8]) -> Result<String, String> {
    let (count, body) = blob.split_first().ok_or("no count")?;
    let mut values = Vec::new();
    histograms::decode(body, (*count).into(), &mut values).map_err(|error| error.to_string())?;
    Ok(values.iter().map(|value| format!("{value:?}\n")).collect())
}

#[test]
fn recorded_commands_chunks_and_shards_are_still_read() {
    let commands = || join(commands().iter().map(DataCommand::encode));
    let responses = || join(responses().iter().map(DataResponse::encode));
    let since = |oldest, name, version: u8, record, render| Format {
        name,
        oldest,
        version: version.into(),
        record,
        render,
    };
    let format = |name, version, record, render| since(1, name, version, record, render);
    let formats = [
        format("command", COMMAND_VERSION, commands, |blob| each(blob, show_command)),
        format("answer", COMMAND_VERSION, responses, |blob| each(blob, show_response)),
        format("records", checkpoint::VERSION, shard, show_shard),
        since(2, "snapshot", snapshot::VERSION, shard, show_shard),
        format("chunk", chunk::VERSION, chunk, show_chunk),
        format("block", block::VERSION, blocks, |blob| each(blob, show_block)),
        format("histograms", histograms::VERSION, histogram_columns, show_histograms),
    ];
    let dir = corpus::dir(env!("CARGO_MANIFEST_DIR")).join("shard");
    let checked = corpus::check(&dir, &formats, std::env::var_os("RECORD").is_some());
    checked.unwrap_or_else(|wrong| panic!("{wrong}"));
}
