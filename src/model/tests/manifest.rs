//! Bundles that are wrong, each refused with its file, key and rule.

use expect_test::{Expect, expect};

use super::tiny_bundle;
use crate::model::HeadInput;
use crate::model::features::Source;
use crate::model::manifest::Manifest;

fn text() -> String {
    std::fs::read_to_string(tiny_bundle().join("manifest.toml")).unwrap()
}

/// The message for the tiny bundle's manifest with `old` replaced by `new`.
fn check(old: &str, new: &str, expected: Expect) {
    let text = text();
    assert!(text.contains(old), "the manifest has no {old}");
    let error = Manifest::parse(&text.replacen(old, new, 1)).expect_err(new);
    expected.assert_eq(&error.to_string());
}

#[test]
fn a_good_manifest_is_read() {
    let manifest = Manifest::parse(&text()).unwrap();
    assert_eq!(manifest.id.as_str(), "tiny@1");
    assert_eq!(manifest.fields, [(Source::Name, 2), (Source::Attribute("page".into()), 1)]);
    let shape = manifest.shape;
    assert_eq!((shape.fields, shape.numbers, shape.context), (2, 2, 4));
    assert_eq!((shape.session, shape.hidden, shape.state, shape.embedding), (3, 4, 5, 3));
    assert_eq!(manifest.heads[0].inputs, [HeadInput::Prior, HeadInput::Session, HeadInput::Context]);
    assert_eq!(manifest.files().len(), 7);
}

#[test]
fn a_later_contract_is_refused_before_its_keys_are() {
    check(
        "contract = 1",
        "contract = 2\nnovelty = true",
        expect!["manifest.toml: contract is 2, must be 1, the contract that this dce reads"],
    );
}

#[test]
fn keys_are_the_contracts() {
    check(
        "opset = 20",
        "opset = 20\nopsets = 20",
        expect![[r#"
        manifest.toml: TOML parse error at line 6, column 1
          |
        6 | opsets = 20
          | ^^^^^^
        unknown field `opsets`, expected one of `contract`, `name`, `version`, `timezone`, `opset`, `dimensions`, `vocabulary`, `fields`, `numbers`, `context`, `graphs`, `heads`, `golden`"#]],
    );
    check(
        "hidden = 4\n",
        "",
        expect![[r#"
        manifest.toml: TOML parse error at line 7, column 1
          |
        7 | [dimensions]
          | ^^^^^^^^^^^^
        missing field `hidden`"#]],
    );
    check(
        "[graphs.customer_read]",
        "[graphs.customer_reed]",
        expect![[r#"
        manifest.toml: TOML parse error at line 55, column 9
           |
        55 | [graphs.customer_reed]
           |         ^^^^^^^^^^^^^
        unknown field `customer_reed`, expected one of `session_encoder`, `session_step`, `customer_step`, `customer_read`"#]],
    );
    check(
        "[heads.risk]",
        "[heads.risk]\nclass = 2",
        expect![[r#"
        manifest.toml: TOML parse error at line 60, column 1
           |
        60 | class = 2
           | ^^^^^
        unknown field `class`, expected one of `file`, `sha256`, `inputs`, `task`, `classes`"#]],
    );
    check(
        "buckets = 2",
        "buckets = -2",
        expect![[r#"
        manifest.toml: TOML parse error at line 19, column 11
           |
        19 | buckets = -2
           |           ^^
        invalid value: integer `-2`, expected u32"#]],
    );
    check(
        "opset = 20",
        "opset = ",
        expect![[r#"
        manifest.toml: TOML parse error at line 5, column 9
          |
        5 | opset = 
          |         ^
        string values must be quoted, expected literal string"#]],
    );
}

#[test]
fn values_keep_their_rules() {
    check(
        "name = \"tiny\"",
        "name = \"ti@ny\"",
        expect![[r#"manifest.toml: name is "ti@ny", must be 1 to 64 letters, digits, dots, dashes or underscores"#]],
    );
    check(
        "version = \"1\"",
        "version = \"\"",
        expect![[r#"manifest.toml: version is "", must be 1 to 64 letters, digits, dots, dashes or underscores"#]],
    );
    check(
        "Europe/Berlin",
        "Europe/Atlantis",
        expect![[r#"manifest.toml: timezone is "Europe/Atlantis", must be an IANA time zone such as Europe/Berlin"#]],
    );
    check("opset = 20", "opset = 22", expect!["manifest.toml: opset is 22, must be 17 to 20"]);
    check("opset = 20", "opset = 16", expect!["manifest.toml: opset is 16, must be 17 to 20"]);
    check("session = 3", "session = 0", expect!["manifest.toml: dimensions.session is 0, must be 1 to 16384"]);
    check(
        "embedding = 3",
        "embedding = 100000",
        expect!["manifest.toml: dimensions.embedding is 100000, must be 1 to 16384"],
    );
    check("buckets = 2", "buckets = 0", expect!["manifest.toml: fields[0].buckets is 0, must be 1 to 16777216"]);
    check(
        "source = \"name\"",
        "source = \"customer_id\"",
        expect![[
            r#"manifest.toml: fields[0].source is "customer_id", must be name, kind, channel, device_id or attributes.KEY"#
        ]],
    );
    check(
        "source = \"name\"",
        "source = \"attributes.\"",
        expect![[
            r#"manifest.toml: fields[0].source is "attributes.", must be name, kind, channel, device_id or attributes.KEY"#
        ]],
    );
    check(
        "source = \"name\"",
        "source = \"attributes.page\"",
        expect![[r#"manifest.toml: fields[1].source is "attributes.page", must be another than the fields before it"#]],
    );
    check(
        "source = \"attributes.amount\"",
        "source = \"channel\"",
        expect![[r#"manifest.toml: numbers[0].source is "channel", must be attributes.KEY"#]],
    );
    check(
        "transform = \"log1p\"",
        "transform = \"log\"",
        expect![[r#"manifest.toml: numbers[0].transform is "log", must be identity or log1p"#]],
    );
    check(
        "scale = 2.0",
        "scale = 0.0",
        expect!["manifest.toml: numbers[0].scale is 0, must be a finite number other than 0"],
    );
    check(
        "scale = 15.0",
        "scale = inf",
        expect!["manifest.toml: context[1].scale is inf, must be a finite number other than 0"],
    );
    check("mean = 3.0", "mean = nan", expect!["manifest.toml: context[0].mean is NaN, must be a finite number"]);
    check(
        "name = \"balance\"",
        "name = \"\"",
        expect!["manifest.toml: context[0].name is empty, must be a key of the LOGIN event's context"],
    );
    check(
        "[heads.risk]",
        "[heads.\"ri sk\"]",
        expect![[
            r#"manifest.toml: heads.ri sk is "ri sk", must be 1 to 64 letters, digits, dots, dashes or underscores"#
        ]],
    );
    check(
        "\"prior\", ",
        "\"past\", ",
        expect![[
            r#"manifest.toml: heads.risk.inputs is ["past", "session", "context"], must be different ones of state, prior, session, embedding, calendar, context"#
        ]],
    );
    check(
        "\"prior\", ",
        "\"session\", ",
        expect![[
            r#"manifest.toml: heads.risk.inputs is ["session", "session", "context"], must be different ones of state, prior, session, embedding, calendar, context"#
        ]],
    );
    check(
        "[\"prior\", \"session\", \"context\"]",
        "[]",
        expect!["manifest.toml: heads.risk.inputs is empty, must be one or more of the contract's inputs"],
    );
    check(
        "[heads.risk]",
        "[heads.risk]\ntask = \"guess\"",
        expect![[r#"manifest.toml: heads.risk.task is "guess", must be owner, next, next_session, label"#]],
    );
    check(
        "[heads.risk]",
        "[heads.risk]\nclasses = [\"a\", \"b\", \"a\"]",
        expect!["manifest.toml: heads.risk.classes is 3 names, 2 of them different, must be different names"],
    );
    check(
        "tolerance = 1e-5",
        "tolerance = 0.0",
        expect!["manifest.toml: golden.tolerance is 0, must be above 0, at most 0.01"],
    );
    check(
        "tolerance = 1e-5",
        "tolerance = 1.0",
        expect!["manifest.toml: golden.tolerance is 1, must be above 0, at most 0.01"],
    );
    check(
        "tolerance = 1e-5",
        "tolerance = nan",
        expect!["manifest.toml: golden.tolerance is NaN, must be above 0, at most 0.01"],
    );
}

#[test]
fn files_lie_inside_the_folder() {
    for bad in ["../session_step.onnx", "/etc/passwd", "heads/../../x", "", ".", "a\\\\b", "C:x"] {
        let text = text().replace("session_step.onnx", bad);
        let error = Manifest::parse(&text).expect_err(bad).to_string();
        assert!(error.starts_with("manifest.toml: graphs.session_step.file is "), "{error}");
        assert!(error.ends_with(", must be a path inside the bundle's folder"), "{error}");
    }
    check(
        "sha256 = \"d",
        "sha256 = \"D",
        expect![[
            r#"manifest.toml: vocabulary.sha256 is "D1811993b5de49019489016f9dee7bd30207cb50777cf9a1ac9c04ebf5a82f1c", must be 64 lower-case hexadecimal digits"#
        ]],
    );
    check(
        "sha256 = \"d",
        "sha256 = \"",
        expect![[
            r#"manifest.toml: vocabulary.sha256 is "1811993b5de49019489016f9dee7bd30207cb50777cf9a1ac9c04ebf5a82f1c", must be 64 lower-case hexadecimal digits"#
        ]],
    );
}

#[test]
fn a_session_has_fields_and_not_too_many() {
    let fields = text().lines().skip_while(|line| *line != "[[fields]]").take(8).collect::<Vec<_>>().join("\n");
    check(&fields, "", expect!["manifest.toml: [[fields]] is a list of 0, must be 1 to 256 entries"]);
    let many: String = (0..257).map(|n| format!("[[fields]]\nsource = \"attributes.a{n}\"\nbuckets = 1\n")).collect();
    check(&fields, &many, expect!["manifest.toml: [[fields]] is a list of 257, must be 1 to 256 entries"]);
}

#[test]
fn the_vocabulary_is_that_of_the_manifest() {
    let check = |vocabulary: &str, expected: Expect| {
        let error = Manifest::parse(&text()).unwrap().features(vocabulary.as_bytes()).unwrap_err();
        expected.assert_eq(&error.to_string());
    };
    check("[]", expect!["vocabulary.json: invalid type: sequence, expected a map at line 1 column 0"]);
    check(
        "{\"name\": []}",
        expect![
            "vocabulary.json: attributes.page is missing, must be there, since the manifest has it among its fields"
        ],
    );
    check(
        "{\"name\": [], \"page\": [], \"attributes.page\": []}",
        expect!["vocabulary.json: page is there, must be a field of the manifest, or absent"],
    );
    check(
        "{\"name\": [\"a\", \"b\", \"a\"], \"attributes.page\": []}",
        expect![[r#"vocabulary.json: name is a list with "a" twice, must be a list of different names"#]],
    );
    check(
        "{\"name\": [1], \"attributes.page\": []}",
        expect!["vocabulary.json: invalid type: integer `1`, expected a string at line 1 column 11"],
    );
    check("{\"name\": [\"a\"", expect!["vocabulary.json: EOF while parsing a list at line 1 column 13"]);
}
