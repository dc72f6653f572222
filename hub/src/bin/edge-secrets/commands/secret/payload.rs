//! A new value on its way in: from a file, from standard input, or from a prompt without echo.

use std::fmt;

use edge_secrets_protocol::limits::{MAX_FIELDS, MAX_SECRET_BYTES};
use edge_secrets_protocol::secret::VALUE_FIELD;
use edge_secrets_protocol::{FieldName, Fields, Secret};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::cli::SetArgs;
use crate::error::Error;
use crate::input::{Source, read_value};
use crate::output::Ui;

/// The payload that the arguments ask for.
///
/// # Errors
/// When there is none, more than one place claims standard input, or the fields are not fit. No
/// message repeats anything of a value.
pub(super) fn read(args: &SetArgs, ui: &mut Ui) -> Result<Secret, Error> {
    if !args.stray.is_empty() {
        return Err(Error::Usage(
            "a value never stands on the command line, where others can see it: use --value-file F, \
             or `-` for standard input. What was given there should be considered seen"
                .to_owned(),
        ));
    }
    if let Some(file) = &args.from_file {
        return from_object(&read_value(&file.as_str().into(), "--from-file", ui)?);
    }
    let strip = args.strip_newline;
    if !args.field_files.is_empty() {
        return from_field_files(&args.field_files, strip, ui);
    }
    let value = match &args.value_file {
        Some(file) => stripped(
            read_value(&file.as_str().into(), "--value-file", ui)?,
            strip,
        ),
        None if ui.in_is_terminal() => prompt(&args.name)?,
        None => {
            return Err(Error::Usage(
                "there is no value: standard input is read with `--value-file -`".to_owned(),
            ));
        }
    };
    if value.is_empty() {
        // A script whose source failed must not replace a good credential by nothing.
        return Err(Error::Usage("the value is empty".to_owned()));
    }
    encode(&[(value_field()?, value.expose())])
}

fn from_field_files(files: &[String], strip: bool, ui: &mut Ui) -> Result<Secret, Error> {
    let mut sources = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        let Some((name, source)) = file.split_once('=') else {
            return Err(Error::Usage(format!(
                "--field-file number {} is not written K=F: the field's name, `=`, its file",
                at + 1
            )));
        };
        let name: FieldName = name.parse().map_err(|_| {
            Error::Usage(format!(
                "--field-file number {} does not begin with a field's name (1 to 128 of A-Z a-z \
                 0-9 . _ -)",
                at + 1
            ))
        })?;
        sources.push((name, Source::from(source)));
    }
    let from_stdin = sources
        .iter()
        .filter(|(_, source)| *source == Source::Stdin);
    if from_stdin.count() > 1 {
        return Err(Error::Usage(
            "only one field can come from standard input".to_owned(),
        ));
    }
    let mut values = Vec::with_capacity(sources.len());
    for (name, source) in sources {
        let value = read_value(&source, &format!("--field-file {name}"), ui)?;
        values.push((name, stripped(value, strip)));
    }
    let fields: Vec<_> = values
        .iter()
        .map(|(name, value)| (name.clone(), value.expose()))
        .collect();
    encode(&fields)
}

/// Reads a JSON object of strings.
fn from_object(text: &Secret) -> Result<Secret, Error> {
    // What the parser has to say may quote a value: only where it stopped is passed on.
    let object: Object = serde_json::from_slice(text.expose()).map_err(|error| {
        Error::Usage(format!(
            "--from-file: line {}, column {}: not a JSON object whose values are all strings, with \
             each field once and named with A-Z a-z 0-9 . _ - only",
            error.line(),
            error.column()
        ))
    })?;
    let fields: Vec<_> = object
        .0
        .iter()
        .map(|(name, value)| (name.clone(), value.0.as_bytes()))
        .collect();
    encode(&fields)
}

pub(super) fn prompt(name: &impl fmt::Display) -> Result<Secret, Error> {
    let value = rpassword::prompt_password(format!("Value of {name}: "))
        .map_err(|error| Error::Failed(format!("the terminal cannot be read: {error}")))?;
    let value = Secret::new(value.into_bytes());
    if value.len() > MAX_SECRET_BYTES {
        return Err(Error::Usage("the value is too large".to_owned()));
    }
    Ok(value)
}

fn encode(fields: &[(FieldName, &[u8])]) -> Result<Secret, Error> {
    Fields::encode(fields).map_err(|error| Error::Usage(error.to_string()))
}

/// Without one line end at the end, if that is wanted and there is one.
fn stripped(value: Secret, strip: bool) -> Secret {
    let bytes = value.expose();
    let Some(kept) = bytes.strip_suffix(b"\n").filter(|_| strip) else {
        return value;
    };
    let kept = kept.strip_suffix(b"\r").unwrap_or(kept);
    Secret::new(kept.to_vec())
}

fn value_field() -> Result<FieldName, Error> {
    VALUE_FIELD
        .parse()
        .map_err(|error| Error::Failed(format!("{error}")))
}

struct Object(Vec<(FieldName, Text)>);

/// Wiped when dropped.
struct Text(Zeroizing<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut fields: Vec<(FieldName, Text)> = Vec::new();
                while let Some((name, value)) = members.next_entry::<FieldName, Text>()? {
                    if fields.len() == MAX_FIELDS || fields.iter().any(|(known, _)| *known == name)
                    {
                        return Err(de::Error::custom("too many fields, or one twice"));
                    }
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::{Cli, Command, SecretCommand};
    use crate::output::TestUi;

    fn set(options: &[&str], input: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let words = ["edge-secrets", "secret", "set", "db"];
        let cli = Cli::try_parse_from(words.iter().chain(options)).unwrap();
        let Command::Secret(SecretCommand::Set(args)) = cli.command else {
            panic!("{cli:?}");
        };
        let payload = read(&args, &mut TestUi::new(None, input).ui)?;
        let fields = Fields::decode(payload.expose()).unwrap();
        let fields = fields
            .expose()
            .map(|(name, value)| (name.into(), value.into()));
        Ok(fields.collect())
    }

    fn refusal(options: &[&str], input: &[u8]) -> String {
        let error = set(options, input).unwrap_err();
        assert_eq!(error.exit_code(), 64, "{error}");
        error.to_string()
    }

    #[test]
    fn a_value_is_taken_as_it_is_unless_told_otherwise() {
        let value = |options: &[&str], input: &[u8]| {
            let fields = set(options, input).unwrap();
            assert_eq!(fields.len(), 1);
            assert_eq!(fields[0].0, "value");
            fields[0].1.clone()
        };
        assert_eq!(value(&["--value-file", "-"], b"x\xff\r\n"), b"x\xff\r\n");
        let strip = ["--value-file", "-", "--strip-newline"];
        assert_eq!(value(&strip, b"x\n\n"), b"x\n");
        assert_eq!(value(&strip, b"x\r\n"), b"x");
        assert_eq!(value(&strip, b"x"), b"x");
    }

    #[test]
    fn fields_come_from_files_and_from_one_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c=d");
        std::fs::write(&file, "certificate").unwrap();
        let cert = format!("cert={}", file.display());
        let fields = set(&["--field-file", &cert, "--field-file", "key=-"], b"k").unwrap();
        let wanted = [("cert", &b"certificate"[..]), ("key", b"k")];
        assert_eq!(fields, wanted.map(|(n, v)| (n.to_owned(), v.to_vec())));

        let twice = ["--field-file", "a=-", "--field-file", "b=-"];
        assert!(refusal(&twice, b"").contains("standard input"));
        let same = ["--field-file", &cert, "--field-file", &cert];
        assert!(refusal(&same, b"").contains("same name"));
    }

    #[test]
    fn an_object_of_strings_gives_its_fields() {
        let text = br#"{"key": "basicauth", "value": "us\u00e9r:\"pw\""}"#;
        let fields = set(&["--from-file", "-"], text).unwrap();
        let wanted = [("key", "basicauth"), ("value", "usér:\"pw\"")];
        assert_eq!(
            fields,
            wanted.map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec()))
        );
    }

    #[test]
    fn refusals_never_repeat_a_value() {
        for text in [
            r#"{"key": ["canary"]}"#,
            r#"{"canary key": "x"}"#,
            r#"{"key": "canary", "key": "canary"}"#,
            r#"{"key": "canary"#,
            r#"["canary"]"#,
            r#""canary""#,
            r#"{"key": "canary"} canary"#,
            "canary",
            "",
            "{}",
        ] {
            let refusal = refusal(&["--from-file", "-"], text.as_bytes());
            assert!(!refusal.contains("canary"), "{refusal}");
        }
        for options in [
            &["canary"][..],
            &["--field-file", "canary"],
            &["--field-file", "can/ary=canary"],
            &["--field-file", "password=canary"],
            &["--value-file", "canary"],
            &["--from-file", "canary"],
        ] {
            let refusal = refusal(options, b"");
            assert!(!refusal.contains("canary"), "{refusal}");
        }
    }

    #[test]
    fn nothing_is_not_a_value() {
        assert!(refusal(&["--value-file", "-"], b"").contains("empty"));
        assert!(refusal(&["--value-file", "-", "--strip-newline"], b"\n").contains("empty"));
        assert!(refusal(&[], b"ignored").contains("--value-file -"));
    }

    proptest! {
        #[test]
        fn any_object_of_strings_survives(
            fields in prop::collection::btree_map("[a-zA-Z0-9_-]{1,20}", "\\PC{0,40}", 1..6)
        ) {
            let text = serde_json::to_vec(&fields).unwrap();
            let read = set(&["--from-file", "-"], &text).unwrap();
            let wanted: Vec<_> =
                fields.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            set(&["--from-file", "-"], &bytes).ok();
        }
    }
}
