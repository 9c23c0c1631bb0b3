use super::*;

fn matching<'t>(pattern: &str, texts: &[&'t str]) -> Vec<&'t str> {
    let regex = AnchoredRegex::new(pattern).expect("Go accepts it");
    texts.iter().copied().filter(|text| regex.is_match(text)).collect()
}

fn refusal(pattern: &str) -> String {
    AnchoredRegex::new(pattern).map_or_else(|e| e.to_string(), |_| "accepted".into())
}

/// A refusal, without the words that all have in common.
fn refused(pattern: &str, text: &str) {
    assert_eq!(refusal(pattern), format!("error parsing regexp: {text}"));
}

#[test]
fn the_whole_text_must_match() {
    assert_eq!(matching("foo|bar", &["foo", "bar", "foobar", "xfoo", ""]), ["foo", "bar"]);
    assert_eq!(matching("fo+", &["foo", "foo\n", "\nfoo"]), ["foo"]);
}

#[test]
fn a_dot_is_a_newline_too() {
    assert_eq!(matching("a.b", &["a\nb", "axb", "ab"]), ["a\nb", "axb"]);
    assert_eq!(matching("(?-s)a.b", &["a\nb", "axb"]), ["axb"]);
}

#[test]
fn what_only_go_accepts_is_accepted() {
    assert_eq!(matching("\\Qa.b*\\E+", &["a.b*", "a.b**", "aXb"]), ["a.b*", "a.b**"]);
    assert_eq!(matching("\\141\\0", &["a\0"]), ["a\0"]);
    assert_eq!(matching("a{,2}|{|b{", &["a{,2}", "{", "b{", "aa"]), ["a{,2}", "{", "b{"]);
    assert_eq!(matching("[\\d-z]", &["5", "-", "z", "a"]), ["5", "-", "z"]);
    assert_eq!(matching("(?P<1x>a)(?P<1x>b)", &["ab"]), ["ab"]);
}

#[test]
fn what_rust_reads_otherwise_means_what_it_means_in_go() {
    assert_eq!(matching("[a&&b]", &["a", "b", "&", ""]), ["a", "b", "&"]);
    refused("[a--b]", "invalid character class range: `a--`");
    assert_eq!(matching("[+--]", &["+", ",", "-", "."]), ["+", ",", "-"]);
    assert_eq!(matching("[a~~b]", &["a", "~", "b"]), ["a", "~", "b"]);
    assert_eq!(matching("\\<a", &["<a", "a"]), ["<a"]);
    assert_eq!(matching("[a[b]", &["a", "[", "b"]), ["a", "[", "b"]);
}

#[test]
fn classes_are_ascii() {
    assert_eq!(matching("\\d", &["5", "٣"]), ["5"]);
    assert_eq!(matching("\\w", &["a", "é"]), ["a"]);
    assert_eq!(matching("\\s", &[" ", "\t", "\u{b}", "\u{a0}"]), [" ", "\t"]);
    assert_eq!(matching("é\\bx|éx\\B", &["éx"]), ["éx"]);
    assert_eq!(matching("[[:word:]][[:^digit:]]", &["a-", "a1", "éa"]), ["a-"]);
}

#[test]
fn folding_is_that_of_unicode() {
    assert_eq!(matching("(?i)sK", &["SK", "ſ\u{212a}", "sk", "s"]), ["SK", "ſ\u{212a}", "sk"]);
    assert_eq!(matching("(?i:a)b", &["Ab", "AB"]), ["Ab"]);
    assert_eq!(matching("a(?i)b|c", &["aB", "AB", "C"]), ["aB", "C"]);
    assert_eq!(matching("(?i)[^k]", &["\u{212a}", "K", "x"]), ["x"]);
}

#[test]
fn classes_of_unicode_have_the_names_of_go() {
    assert_eq!(matching("\\pL\\p{Greek}\\P{^Lu}", &["aλA", "aλa", "1λA"]), ["aλA"]);
    refused("\\p{Alphabetic}", "invalid character class range: `\\p{Alphabetic}`");
    refused("\\p{Foo", "invalid character class range: `\\p{Foo`");
}

#[test]
fn what_go_refuses_is_refused_in_its_words() {
    refused("a)", "unexpected ): `a)`");
    refused("(a", "missing closing ): `(a`");
    refused("a**", "invalid nested repetition operator: `**`");
    refused("x{2}{3}", "invalid nested repetition operator: `{2}{3}`");
    refused("*a", "missing argument to repetition operator: `*`");
    refused("a|+?", "missing argument to repetition operator: `+?`");
    refused("\\Q\\E*", "missing argument to repetition operator: `*`");
    refused("a{1001}", "invalid repeat count: `{1001}`");
    refused("a{2,1}", "invalid repeat count: `{2,1}`");
    refused("((a{100}){10}){2}", "invalid repeat count: `{2}`");
    refused("(?x)a", "invalid or unsupported Perl syntax: `(?x`");
    refused("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
    refused("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`");
    refused("(?P<n", "invalid named capture: `(?P<n`");
    refused("(?P<x y>a)", "invalid named capture: `(?P<x y>`");
    refused("[z-a]", "invalid character class range: `z-a`");
    refused("[[:foo:]]", "invalid character class range: `[:foo:]`");
    refused("[abc", "missing closing ]: `[abc`");
    refused("\\u0061", "invalid escape sequence: `\\u`");
    refused("\\1", "invalid escape sequence: `\\1`");
    refused("\\C", "invalid escape sequence: `\\C`");
    refused("\\x{110000}", "invalid escape sequence: `\\x{110000`");
    refused("a\\", "trailing backslash at end of expression: ``");
}

#[test]
fn groups_nest_to_a_limit() {
    let nested = |depth: usize| format!("{}a+{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(matching(&nested(250), &["aa"]), ["aa"]);
    assert!(refusal(&nested(251)).contains("expression nests too deeply"));
}

#[test]
fn programs_have_a_limit() {
    assert!(refusal("(\\pL{100}){10}").contains("expression too large"));
}

#[test]
fn large_programs_are_told_from_usual_ones() {
    let is_large = |pattern: &str| AnchoredRegex::new(pattern).expect("valid").is_large();
    assert!(is_large("(\\pL{50}){2}"));
    assert!(!is_large(".*foo-[0-9]{1,5}(a|b).*"));
    assert!(!is_large(&vec!["host-17"; 10_000].join("|")), "texts need no program");
}

#[test]
fn few_texts_are_listed() {
    let set =
        |pattern: &str| AnchoredRegex::new(pattern).expect("valid").literal_set().map(<[String]>::to_vec);
    assert_eq!(set("b|a|a"), Some(vec!["a".into(), "b".into()]));
    assert_eq!(set("^x(1|2)?$"), Some(vec!["x".into(), "x1".into(), "x2".into()]));
    assert_eq!(set("[ab]c"), Some(vec!["ac".into(), "bc".into()]));
    assert_eq!(set(""), Some(vec![String::new()]));
    assert_eq!(set("a.*"), None);
    assert_eq!(set("a|b$c"), None);
}

#[test]
fn a_common_start_is_known() {
    let prefix = |pattern: &str| AnchoredRegex::new(pattern).expect("valid").prefix().to_owned();
    assert_eq!(prefix("foo.*"), "foo");
    assert_eq!(prefix("^(foo|fox)+.x"), "fo");
    assert_eq!(prefix("(?i)foo.*"), "");
    assert_eq!(prefix("(é|è).*"), "");
    assert_eq!(prefix(".*foo"), "");
}

#[test]
fn templates_are_read_as_go_reads_them() {
    let expand = |template: &str| {
        AnchoredRegex::new("(a)(?P<name>b)?(?P<9x>c)").expect("valid").expand("abc", template)
    };
    assert_eq!(expand("$1x${1}x$$$2$1$4$x"), Some("ax$ba".into()));
    assert_eq!(expand("${name}-$name-$9x"), Some("b-b-c".into()));
    assert_eq!(expand("$ ${ ${1 $"), Some("$ ${ ${1 $".into()));
    assert_eq!(expand("$01"), Some(String::new()));
    assert_eq!(expand("plain"), Some("plain".into()));
}

#[test]
fn a_list_of_texts_has_groups_all_the_same() {
    let regex = AnchoredRegex::new("(a|b)-(c)").expect("valid");
    assert_eq!(regex.expand("b-c", "$2$1"), Some("cb".into()));
    assert_eq!(regex.expand("b-d", "$2$1"), None);
}
