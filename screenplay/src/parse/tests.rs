use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Script {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn check_refused(text: &str, line: usize, words: &[&str]) {
    let error = text.parse::<Script>().expect_err("it is refused");
    assert_eq!(error.line, line, "{error}");
    for word in words {
        assert!(error.what.contains(word), "{word:?} in {error}");
    }
}

#[test]
fn a_script_says_what_runs_and_what_goes_wrong_when() {
    let script = parse(
        "# found by chance\nshards 1\ntargets 2 # few\nlasts 1m\n\nat 20s one-way node-1 -> node-2 for 5s\nat 1.5s pause node-3 for 8s\n",
    );
    assert_eq!(script.load, Load { shards: 1, targets: 2, ..Load::default() });
    assert_eq!(script.lasts, Duration::from_secs(60));
    let shown: Vec<_> = script.events.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["at 1.5s pause node-3 for 8s", "at 20s one-way node-1 -> node-2 for 5s"]);
}

#[test]
fn a_script_ends_a_while_after_its_last_fault_if_it_does_not_say_when() {
    assert_eq!(parse("at 1s pause node-1 for 9s\nat 2s kill node-2").lasts, Duration::from_secs(15));
}

#[test]
fn a_node_that_goes_down_is_back_after_two_seconds_if_nothing_is_said() {
    assert_eq!(parse("at 1s kill node-3").events[0].lasts, Duration::from_secs(2));
    assert_eq!(parse("at 1s wipe node-3").events[0].lasts, Duration::ZERO);
}

#[test]
fn amounts_have_the_unit_of_their_fault() {
    let of = |line: &str| parse(line).events[0].by;
    assert_eq!(of("at 1s clock-step node-1 by -1d for 9s"), -86_400_000);
    assert_eq!(of("at 1s clock-step node-1 by +700ms for 9s"), 700);
    assert_eq!(of("at 1s clock-drift node-1 by -500ppm for 9s"), -500);
    assert_eq!(of("at 1s slow-sync node-1 by 150ms for 9s"), 150);
    assert_eq!(of("at 1s narrow node-1 by 100kB/s for 9s"), 100);
    assert_eq!(of("at 1s datagrams node-1 node-2 by 30% for 9s"), 30);
}

#[test]
fn what_is_not_understood_is_refused_with_its_line_and_a_remedy() {
    check_refused("\nat 5s pauze node-1 for 3s", 2, &["pauze", "pause"]);
    check_refused("at 5s flap node-1 node-2 for 3s", 1, &["by chance only", "partition"]);
    check_refused("at 5s pause node-4 for 3s", 1, &["node-4", "node-3"]);
    check_refused("at 5s pause for 3s", 1, &["\"for\" is no node"]);
    check_refused("at 5s pause node-1", 1, &["at SPAN pause NODE for SPAN"]);
    check_refused("at 5s pause node-1 for 0s", 1, &["at least 1ms"]);
    check_refused("at 5s reset for 3s", 1, &["at SPAN reset"]);
    check_refused("at 5s partition node-1 node-1 for 3s", 1, &["name two"]);
    check_refused("at 5s one-way node-1 node-2 for 3s", 1, &["NODE -> NODE"]);
    check_refused("at 5 kill node-1", 1, &["\"5\" is no time", "5s"]);
    check_refused("at 5s slow-sync node-1 by -5ms for 3s", 1, &["-5ms", "by SPAN"]);
    check_refused("at 5s kill node-1 by 5ms", 1, &["at SPAN kill NODE [for SPAN]"]);
    check_refused("at 5s kill node-1 for 3s now", 1, &["\"now\"", "too many"]);
    check_refused("shards 0", 1, &["from 1 to 64"]);
    check_refused("writers 1\nwriters 2", 2, &["second time"]);
    check_refused("nodes 2", 1, &["from 3 to 7"]);
    check_refused("at 5s kill node-1\nnodes 5", 2, &["before"]);
    check_refused("nodes 5\nat 5s kill node-6", 2, &["\"node-6\"", "node-5"]);
    check_refused("lasts 5s\nat 5s kill node-1", 1, &["at 5s kill node-1 for 2s", "longer"]);
    check_refused("play", 1, &["play", "shards"]);
    check_refused(&"\n".repeat(BYTES_MAX + 1), 1, &["in parts"]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let scripted: Vec<_> = Fault::ALL.iter().copied().filter(|fault| fault.form().is_some()).collect();
    let parts = (proptest::sample::select(scripted), 0..1_000_000_u64, 1..1_000_000_u64, 1..100_i64);
    (parts, 0..NODES_MAX, 1..NODES_MAX, proptest::bool::ANY).prop_map(
        |((fault, at, lasts, by), node, on, minus)| {
            let form = fault.form().expect("those that can be scripted were chosen");
            let two = matches!(form.whom, Whom::Two | Whom::Way);
            let node = if form.whom == Whom::Nobody { 0 } else { node };
            let signed = matches!(form.amount, Amount::Shift | Amount::Ppm) && minus;
            Event {
                at: Duration::from_millis(at),
                fault,
                node,
                other: if two { (node + on) % NODES_MAX } else { node },
                by: if form.amount == Amount::Nothing { 0 } else { by * if signed { -1 } else { 1 } },
                lasts: Duration::from_millis(if form.lasting == Lasting::Instant { 0 } else { lasts }),
            }
        },
    )
}

proptest! {
    #[test]
    fn a_script_that_was_written_is_read_back_the_same(mut events in proptest::collection::vec(any_event(), 0..20)) {
        events.sort_by_key(|event| event.at);
        let load = Load { nodes: NODES_MAX, shards: 2, targets: 3, writers: 4, readers: 5 };
        let script = Script { load, lasts: Duration::from_secs(2000), events };
        prop_assert_eq!(script.to_string().parse::<Script>(), Ok(script));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(at|for|by|->|node-[0-9]|kill|[0-9.]{1,30}(ms|s|d|%|ppm|kB/s)?|[ \n#-]|\\PC){0,20}") {
        let _any = text.parse::<Script>();
    }
}
