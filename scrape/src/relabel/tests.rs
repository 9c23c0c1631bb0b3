use super::*;
use serde::Deserialize;
use std::collections::BTreeMap;

fn spec(action: RelabelAction) -> RelabelSpec {
    RelabelSpec { action, ..RelabelSpec::default() }
}

fn refused(spec: RelabelSpec) -> String {
    RelabelConfig::new(spec, NameValidation::Utf8).map_or_else(|e| e.to_string(), |_| "fine".to_owned())
}

#[test]
fn hashmod_needs_a_modulus_and_a_target() {
    assert_eq!(
        refused(spec(RelabelAction::HashMod)),
        "relabel configuration for hashmod requires non-zero modulus"
    );
    assert_eq!(
        refused(RelabelSpec { modulus: 8, ..spec(RelabelAction::HashMod) }),
        "relabel configuration for hashmod action requires 'target_label' value"
    );
}

#[test]
fn labeldrop_takes_a_regex_and_nothing_else() {
    let text = "labeldrop action requires only 'regex', and no other fields";
    let drop = || RelabelSpec { regex: Some("a.*".into()), ..spec(RelabelAction::LabelDrop) };
    assert_eq!(refused(drop()), "fine");
    assert_eq!(refused(RelabelSpec { source_labels: vec!["a".into()], ..drop() }), text);
    assert_eq!(refused(RelabelSpec { modulus: 8, ..drop() }), text);
    assert_eq!(refused(RelabelSpec { separator: Some(",".into()), ..drop() }), text);
    assert_eq!(refused(RelabelSpec { replacement: Some("x".into()), ..drop() }), text);
    assert_eq!(refused(RelabelSpec { target_label: "x".into(), ..drop() }), text);
}

#[test]
fn keepequal_takes_labels_and_nothing_else() {
    let equal = || RelabelSpec { target_label: "b".into(), ..spec(RelabelAction::KeepEqual) };
    assert_eq!(refused(equal()), "fine");
    assert_eq!(
        refused(RelabelSpec { regex: Some("x".into()), ..equal() }),
        "keepequal action requires only 'source_labels' and `target_label`, and no other fields"
    );
    assert_eq!(
        refused(spec(RelabelAction::KeepEqual)),
        "relabel configuration for keepequal action requires 'target_label' value"
    );
}

#[test]
fn lowercase_takes_no_replacement() {
    let lower = RelabelSpec {
        target_label: "a".into(),
        replacement: Some("bar".into()),
        ..spec(RelabelAction::Lowercase)
    };
    assert_eq!(refused(lower), "'replacement' can not be set for lowercase action");
}

#[test]
fn an_action_is_known_in_any_case() {
    assert_eq!(RelabelAction::parse("LabelMap"), Ok(RelabelAction::LabelMap));
    assert_eq!(RelabelAction::parse("lose").unwrap_err().to_string(), "unknown relabel action \"lose\"");
    assert_eq!(RelabelAction::parse("").unwrap_err().to_string(), "relabel action cannot be empty");
}

#[test]
fn a_broken_expression_is_refused() {
    let broken = RelabelSpec { regex: Some("abc(def".into()), ..spec(RelabelAction::Keep) };
    assert!(refused(broken).contains("error parsing regexp"));
}

#[test]
fn old_names_are_held_to_when_asked_for() {
    let rule = |target: &str| {
        let spec = RelabelSpec { target_label: target.into(), ..spec(RelabelAction::Replace) };
        RelabelConfig::new(spec, NameValidation::Legacy).is_ok()
    };
    assert!(rule("a_$1") && rule("${1}b"));
    assert!(!rule("a.b") && !rule("1a"));
}

#[test]
fn with_defaults_a_source_is_copied_and_an_empty_one_deletes() {
    let rule = RelabelSpec {
        source_labels: vec!["a".into(), "b".into()],
        separator: Some(String::new()),
        target_label: "c".into(),
        ..RelabelSpec::default()
    };
    let rule = RelabelConfig::new(rule, NameValidation::Utf8).unwrap();
    let mut labels = LabelsBuilder::default();
    labels.set("a", "1").set("b", "2");
    assert!(relabel(&mut labels, std::slice::from_ref(&rule)));
    assert_eq!(labels.get("c"), "12");
    labels.remove("a").remove("b");
    assert!(relabel(&mut labels, &[rule]));
    assert_eq!(labels.get("c"), "");
}

#[derive(Deserialize)]
struct Case {
    input: BTreeMap<String, String>,
    relabel: Vec<Rule>,
    output: Option<BTreeMap<String, String>>,
    #[serde(default)]
    drop: bool,
}

/// A rule as the corpus has it: without defaults.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Rule {
    source_labels: Vec<String>,
    separator: String,
    target_label: String,
    regex: Option<String>,
    modulus: u64,
    replacement: Option<String>,
    action: Action,
}

#[derive(Deserialize, Default)]
struct Action {
    id: String,
}

fn rule(raw: Rule) -> RelabelConfig {
    let action = RelabelAction::parse(&raw.action.id).expect("action");
    let default_for_unused = matches!(
        action,
        RelabelAction::KeepEqual
            | RelabelAction::DropEqual
            | RelabelAction::LabelDrop
            | RelabelAction::LabelKeep
    );
    let spec = RelabelSpec {
        source_labels: raw.source_labels,
        separator: (!default_for_unused).then_some(raw.separator),
        target_label: raw.target_label,
        regex: raw.regex,
        modulus: raw.modulus,
        replacement: raw.replacement,
        action,
    };
    RelabelConfig::new(spec, NameValidation::Utf8).expect("a rule of the corpus")
}

#[test]
fn every_case_of_the_corpus_gives_what_prometheus_gives() {
    let Some(text) = crate::corpus::read("derived/relabel_cases.jsonl") else { return };
    let mut count = 0;
    for line in text.lines() {
        let case: Case = serde_json::from_str(line).expect("a case");
        let mut labels = LabelsBuilder::default();
        for (name, value) in &case.input {
            labels.set(name, value);
        }
        let rules: Vec<_> = case.relabel.into_iter().map(rule).collect();
        let kept = relabel(&mut labels, &rules);
        assert_eq!(kept, !case.drop, "{line}");
        let output: BTreeMap<_, _> = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert!(case.drop || Some(&output) == case.output.as_ref(), "{line}\n{output:?}");
        count += 1;
    }
    println!("{count} relabelling cases pass");
    assert_eq!(count, 34);
}
