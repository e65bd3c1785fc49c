//! What a manifest may be written like, and what is refused of it with its line.

use serde_json::json;

use super::*;

fn one(text: &str) -> Document {
    documents(text, false).remove(0).unwrap()
}

#[test]
fn each_field_has_the_line_on_which_its_key_or_item_stands() {
    let yaml = "---\n# comment\nspec:\n  intake:\n    webhook:\n      host: max.acme.ru\n  autoReplies:\n  - after: 1s\n    \
                text: a\n  - {after: 2s,\n     text: b}\n";
    let json = "\n\n{\"spec\":\n  {\"intake\":\n    {\"webhook\":\n   {\"host\": \"max.acme.ru\"}},\n \"autoReplies\":\n  \
                [{\"after\": \"1s\",\n \"text\": \"a\"},\n {\"after\": \"2s\",\n \"text\": \"b\"}]}}";
    for text in [yaml, json] {
        let document = one(text);
        for (path, line) in [
            ("spec", 3),
            ("spec.intake", 4),
            ("spec.intake.webhook.host", 6),
            ("spec.autoReplies", 7),
            ("spec.autoReplies[0]", 8),
            ("spec.autoReplies[0].text", 9),
            ("spec.autoReplies[1]", 10),
            ("spec.autoReplies[1].after", 10),
            ("spec.autoReplies[1].text", 11),
            ("spec.autoReplies[1].missing", 10),
            ("spec.intake.longPoll", 5),
        ] {
            assert_eq!(document.lines.of(&path.parse().unwrap()), line, "{path} of {text}");
        }
    }
    assert_eq!(one(yaml).value, one(json).value);
}

#[test]
fn documents_are_apart_and_know_the_lines_before_them() {
    let text = "\u{feff}a: 1\r\n---\r\nb: |\n  ---\n  text\n--- # c\nc: 3\n...\n---\n";
    let found: Vec<Document> = documents(text, false).into_iter().map(Result::unwrap).collect();
    let shown: Vec<(usize, Value)> = found.into_iter().map(|one| (one.lines.line, one.value)).collect();
    assert_eq!(shown, [(1, json!({"a": 1})), (3, json!({"b": "---\ntext\n"})), (7, json!({"c": 3}))]);
}

#[test]
fn json_is_read_as_json() {
    let pairs = r#"{"text": "\ud83d\ude00"}"#;
    for (text, expected) in [
        (pairs.to_owned(), vec![json!({"text": "😀"})]),
        (format!("{pairs}\n{pairs}"), vec![json!({"text": "😀"}); 2]),
        (format!("{pairs}{pairs} {{}}"), vec![json!({"text": "😀"}), json!({"text": "😀"}), json!({})]),
        (format!("{pairs}\n---\n{pairs}\n"), vec![json!({"text": "😀"}); 2]),
        (
            r#"{"a": [1, -2.5, 3.0, 1e2, true, false, null, "yes", "0400", "a\"\\"]}"#.to_owned(),
            vec![json!({"a": [1, -2.5, 3, 100, true, false, null, "yes", "0400", "a\"\\"]})],
        ),
        // Not JSON after all.
        ("{a: yes please}".to_owned(), vec![json!({"a": "yes please"})]),
    ] {
        let found: Vec<Value> = documents(&text, false).into_iter().map(|one| one.unwrap().value).collect();
        assert_eq!(found, expected, "{text}");
    }
    for (text, line, part) in [
        ("{\n\"a\": \"\\ud83d\"}", 2, "half of a surrogate pair"),
        ("{\"a\": 1,\n}", 2, "name of a field"),
        ("{\"a\": 01}", 1, "malformed"),
        ("{\"a\": yes}", 1, "not in quotes"),
        ("[1", 1, "a comma or ]"),
    ] {
        let error = documents(text, true).remove(0).unwrap_err();
        assert!(error.line == line && error.message.contains(part), "{text}: {error:?}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_line_and_without_its_values() {
    let laughs = (0..30).fold("a0: &a0 [secret]\n".to_owned(), |text, n| {
        format!("{text}a{next}: &a{next} [*a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}]\n", next = n + 1)
    });
    let wide = format!("a: &a {}\nb: [{}]\n", "secret".repeat(50_000), "*a, ".repeat(1_000));
    let table = [
        ("a: [1\nb: 2\n", 2, "did not find expected"),
        ("a: !secret x\n", 1, "tags like !name"),
        ("a: 1\nb: !!binary c2VjcmV0\n", 2, "!!binary is not understood here"),
        ("a: !!int secret\n", 1, "does not fit its tag"),
        ("b: 1\n<<: secret\n", 2, "merge key"),
        ("a: *missing\n", 1, "unknown anchor"),
        ("a:\n  ~: secret\n", 2, "a key is empty"),
        ("a:\n  [b]: secret\n", 2, "a key is not a text"),
        ("a: 1\n\nname: {{ .Values.secret }}\n", 3, "is a template"),
        ("a: 1\n{{- if .Values.x }}\nb: 2\n{{- end }}\n", 2, "is a template"),
        ("{% if secret %}\na: 1\n{% endif %}\n", 1, "is a template"),
        ("# {{ a comment }}\na: [\n", 3, "did not find expected"),
        ("%YAML 1.2\n---\na: 1\n", 1, "directive"),
        ("a: 1\n--- {b: 1}\n", 2, "nothing beside ---"),
        ("a: 1\n...\n\nb: 1\n", 4, "nothing after `...`"),
        (laughs.as_str(), 1, "expand to"),
        (wide.as_str(), 2, "expand to"),
    ];
    for (text, line, part) in table {
        let error = documents(text, false).into_iter().find_map(Result::err).unwrap_or_else(|| panic!("{text}"));
        assert!(error.message.contains(part) && !error.message.contains("secret"), "{}", error.message);
        assert!(error.line == line || part == "expand to", "{}: line {}", error.message, error.line);
    }
}

#[test]
fn what_is_read_differently_or_given_twice_is_told_with_field_and_line_and_the_rest_is_read() {
    let text = "spec:\n  number: 0400\n  text: \"0400\"\n  days: [Mon, no]\n  no: 1\n  limit: 3.0\n  text: again\n  big: .inf\n";
    let document = one(text);
    assert_eq!(
        document.value,
        json!({"spec": {"number": 256, "text": "again", "days": ["Mon", false], "false": 1, "limit": 3, "big": ".inf"}})
    );
    let told: Vec<String> =
        document.misread.iter().map(|one| format!("{} {} {} {}", one.line, one.field, one.mild, one.message)).collect();
    let expected = [
        "2 spec.number false is octal for kubectl",
        "4 spec.days[1] false is false for kubectl",
        "5 spec.false false the key is false for kubectl",
        "6 spec.limit true is written as a fraction: write 3",
        "7 spec.text false is given twice, first on line 3",
        "8 spec.big false is no number that JSON can carry",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn merge_keys_and_aliases_are_resolved() {
    let value = read("base: &base {a: 1, b: 2}\nmore: &more {c: 3}\nuse: {b: 3, <<: [*base, *more]}\n").unwrap();
    assert_eq!(value["use"], json!({"a": 1, "b": 3, "c": 3}));
}

#[test]
fn nesting_has_an_end_whatever_it_is_written_in() {
    for text in [
        "{a: ".repeat(50_000),
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "{\"a\":".repeat(50_000),
        (0..3_000).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "a:\n"),
    ] {
        let error = documents(&text, false).remove(0).unwrap_err();
        assert!(!error.message.is_empty());
    }
}

#[test]
fn a_text_that_ends_in_a_backslash_is_refused_and_nothing_panics() {
    for text in ["\"\\", "a: \"b\\", "- \"\\\\\\", "\"\\x", "\"\\u12"] {
        assert!(super::compose::document(text, 0).is_err(), "{text}");
    }
}

#[test]
fn where_the_parser_gives_up_the_line_is_named_and_nothing_panics() {
    for (text, line) in [("[!!str, b]", 1), ("a: 1\nb: {c: !x, d: 1}\n", 2), ("a:\n- [!!binary,\n  b]\n", 2)] {
        let error = super::compose::document(text, 10).unwrap_err();
        assert!(error.message.contains("a tag that a comma follows"), "{text}: {}", error.message);
        assert_eq!(error.line, 10 + line, "{text}");
    }
}
