use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use edge_secrets_protocol::{FieldName, Secret};
use proptest::prelude::*;

use super::*;

fn payload(fields: &[(&str, &[u8])]) -> Secret {
    let fields: Vec<(FieldName, &[u8])> = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), *value))
        .collect();
    Fields::encode(&fields).unwrap()
}

fn name() -> SecretName {
    "db".parse().unwrap()
}

/// What was written, by name.
fn files(payload: &[u8], format: Format) -> Result<BTreeMap<String, Vec<u8>>, RenderError> {
    let mut out = vec![0; bound(payload.len())];
    let mut files = BTreeMap::new();
    render::<RenderError>(&name(), payload, format, &mut out, &mut |file, content| {
        assert!(
            files.insert(file.to_string(), content.to_vec()).is_none(),
            "{file} is written once"
        );
        Ok(())
    })?;
    Ok(files)
}

fn rendered(payload: &Secret, format: Format) -> Result<Vec<u8>, RenderError> {
    let mut files = files(payload.expose(), format)?;
    assert_eq!(files.len(), 1);
    Ok(files.remove("db").unwrap())
}

/// systemd's reader of environment files, as systemd.exec(5) tells it, written anew: `=` splits, then
/// blanks are skipped, quoted and bare parts follow each other, and a backslash takes the next
/// character (between double quotes only one of four).
fn as_systemd_reads(file: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut rest = file.chars().peekable();
    while rest.peek().is_some() {
        let name: String = rest.by_ref().take_while(|c| *c != '=').collect();
        let mut value = String::new();
        while let Some(c) = rest.next() {
            match c {
                '\n' | '\r' => break,
                '"' => loop {
                    match rest.next() {
                        None | Some('"') => break,
                        Some('\\') => match rest.next() {
                            Some('\n') | None => {}
                            Some(c) if "\"\\$`".contains(c) => value.push(c),
                            Some(c) => value.extend(['\\', c]),
                        },
                        Some(c) => value.push(c),
                    }
                },
                '\'' => value.extend(rest.by_ref().take_while(|c| *c != '\'')),
                '\\' => value.extend(rest.next().filter(|c| !"\n\r".contains(*c))),
                ' ' | '\t' => {}
                c => value.push(c),
            }
        }
        variables.insert(name, value);
    }
    variables
}

/// Sources the file in a real shell and reads each variable back.
fn as_a_shell_reads(file: &[u8], names: &[&str]) -> Vec<Vec<u8>> {
    let mut sourced = tempfile::NamedTempFile::new().unwrap();
    sourced.write_all(file).unwrap();
    let script = names.iter().fold(String::from(". \"$1\""), |script, name| {
        script + &format!(" && printf '%s\\0' \"${{{name}}}\"")
    });
    let output = Command::new("/bin/sh")
        .args(["-euc", &script, "sh"])
        .arg(sourced.path())
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut values: Vec<Vec<u8>> = output.stdout.split(|b| *b == 0).map(Vec::from).collect();
    assert_eq!(values.pop().as_deref(), Some(&b""[..]));
    values
}

/// Docker's and podman's reader: a line, split at the first `=`, nothing unquoted.
fn as_docker_reads(file: &str) -> BTreeMap<String, String> {
    let pairs = file.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

#[test]
fn json_is_one_object_with_ascending_keys() {
    let payload = payload(&[("value", b"user:\"pw\"\n\x01\x1f"), ("key", b"basicauth")]);
    assert_eq!(
        rendered(&payload, Format::Json).unwrap(),
        br#"{"key":"basicauth","value":"user:\"pw\"\n\u0001\u001f"}"#
    );
}

#[test]
fn value_only_is_the_raw_bytes() {
    let one = payload(&[("pem", b"\xff\x00\n")]);
    assert_eq!(rendered(&one, Format::ValueOnly).unwrap(), b"\xff\x00\n");
    let named = payload(&[("key", b"x"), ("value", b"y")]);
    assert_eq!(rendered(&named, Format::ValueOnly).unwrap(), b"y");
}

#[test]
fn fields_are_parts_of_the_payload_itself() {
    let payload = payload(&[("user", b"u"), ("pass.word", b"\xff\x00")]);
    let inside = payload.expose().as_ptr_range();
    let mut seen = Vec::new();
    let mut write = |file: &FileName, content: &[u8]| {
        assert!(inside.contains(&content.as_ptr()));
        seen.push((file.to_string(), content.to_vec()));
        Ok::<_, RenderError>(())
    };
    let format = Format::Fields;
    render(&name(), payload.expose(), format, &mut [], &mut write).unwrap();
    assert_eq!(
        seen,
        [
            ("db/pass.word".to_owned(), b"\xff\x00".to_vec()),
            ("db/user".to_owned(), b"u".to_vec())
        ]
    );
}

#[test]
fn an_environment_quotes_only_what_needs_it() {
    let payload = payload(&[
        ("EMPTY", b""),
        ("PASSWORD", b"a \"b\" $c `d` \\e\nf"),
        ("URL", b"https://example.com:8443/a?"),
        ("token", b"aGk=/+.:@%,_-"),
    ]);
    let expected = "EMPTY=\nPASSWORD=\"a \\\"b\\\" \\$c \\`d\\` \\\\e\nf\"\n\
                    URL=\"https://example.com:8443/a?\"\ntoken=aGk=/+.:@%,_-\n";
    assert_eq!(
        rendered(&payload, Format::Env).unwrap(),
        expected.as_bytes()
    );
}

#[test]
fn a_real_shell_reads_tricky_values_back() {
    let tricky: &[(&str, &str)] = &[
        ("A", ""),
        ("B", " leading and trailing \t"),
        ("C", "\n\n"),
        ("D", "it's `id` $(id) ${HOME} $$ \\$x \\\\ \\\n \"q\""),
        ("E", "~root:~"),
        ("F", "# no comment"),
        ("G", "a=b;c&d|e>f<g(h)i*j?k[l]!m^n{o}"),
        ("H", "\\"),
        ("I", "ends with a backslash\\"),
        ("J", "-----BEGIN KEY-----\r\nabc+/=\r\n-----END KEY-----\n"),
        ("K", "pässwörd \u{81}\u{88}\u{1f511}"),
        ("L", "\u{1b}[0m\u{7f}\u{1}\u{8}"),
        ("M", "%s %n %%"),
    ];
    let input: Vec<_> = tricky.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
    let file = rendered(&payload(&input), Format::Env).unwrap();
    let names: Vec<_> = tricky.iter().map(|(name, _)| *name).collect();
    let back = as_a_shell_reads(&file, &names);
    for ((name, value), back) in tricky.iter().zip(back) {
        assert_eq!(value.as_bytes(), back, "{name}");
    }
}

#[test]
fn what_does_not_fit_the_format_is_named_without_the_value() {
    let several = payload(&[("a", b"hunter2"), ("b", b"y")]);
    let error = rendered(&several, Format::ValueOnly).unwrap_err();
    assert_eq!(error, RenderError::Ambiguous);
    for (format, field, value) in [
        (Format::Json, "tls_key", &b"hunter2\xff"[..]),
        (Format::Env, "tls_key", b"hunter2\xff"),
        (Format::Env, "tls_key", b"hunter2\0"),
        (Format::Env, "tls.key", b"hunter2"),
        (Format::Env, "1tls", b"hunter2"),
        (Format::Env, "tls-key", b"hunter2"),
    ] {
        let error = rendered(&payload(&[(field, value)]), format).unwrap_err();
        let (text, debug) = (error.to_string(), format!("{error:?}"));
        assert!(
            text.contains(field) && text.contains("use `format: "),
            "{text}"
        );
        assert!(
            !text.contains("hunter2") && !debug.contains("hunter2"),
            "{text}"
        );
    }
    assert_eq!(
        files(b"hunter2", Format::Json).unwrap_err(),
        RenderError::Malformed
    );
}

#[test]
fn too_little_room_is_an_error_and_nothing_is_written() {
    let payload = payload(&[("value", b"hunter2")]);
    for format in [Format::Json, Format::Env] {
        let mut write = |_: &FileName, _: &[u8]| -> Result<(), RenderError> {
            panic!("a cut file was written")
        };
        let result = render(&name(), payload.expose(), format, &mut [0; 3], &mut write);
        assert_eq!(result.unwrap_err(), RenderError::NoRoom(3));
    }
}

#[test]
fn what_the_writer_fails_with_ends_it() {
    #[derive(Debug, PartialEq)]
    enum Error {
        Render,
        Disk,
    }
    impl From<RenderError> for Error {
        fn from(_: RenderError) -> Self {
            Self::Render
        }
    }
    let payload = payload(&[("a", b"1"), ("b", b"2")]);
    let mut calls = 0;
    let mut write = |_: &FileName, _: &[u8]| {
        calls += 1;
        Err(Error::Disk)
    };
    let result = render(
        &name(),
        payload.expose(),
        Format::Fields,
        &mut [],
        &mut write,
    );
    assert_eq!((result, calls), (Err(Error::Disk), 1));
}

fn variables() -> impl Strategy<Value = BTreeMap<String, String>> {
    // Escapes, blanks and line breaks are far more frequent than by chance.
    let value = prop_oneof!["[\"\\\\$`'\n\r\t #=a~]{0,12}", "\\PC{0,12}", "[^\0]{0,12}"];
    prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,12}", value, 1..8)
}

proptest! {
    #[test]
    fn json_reads_back_as_the_fields(
        fields in prop::collection::btree_map("[a-zA-Z0-9_-]{1,20}", any::<String>(), 1..8)
    ) {
        let input: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let out = rendered(&payload(&input), Format::Json).unwrap();
        let back: BTreeMap<String, String> = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(back, fields);
    }

    #[test]
    fn systemd_reads_an_environment_back(fields in variables()) {
        let input: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let out = rendered(&payload(&input), Format::Env).unwrap();
        prop_assert_eq!(as_systemd_reads(std::str::from_utf8(&out).unwrap()), fields);
    }

    #[test]
    fn docker_reads_back_what_is_not_quoted(
        fields in prop::collection::btree_map("[a-z_]{1,9}", "[a-zA-Z0-9_./:@%+,=-]{0,20}", 1..8)
    ) {
        let input: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let out = rendered(&payload(&input), Format::Env).unwrap();
        prop_assert_eq!(as_docker_reads(std::str::from_utf8(&out).unwrap()), fields);
    }

    #[test]
    fn every_format_fits_its_bound_whatever_the_fields(
        fields in prop::collection::btree_map(
            "[a-zA-Z_][a-zA-Z0-9._-]{0,8}", prop::collection::vec(any::<u8>(), 0..40), 1..8
        )
    ) {
        let input: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        for format in [Format::Json, Format::Env, Format::Fields, Format::ValueOnly] {
            let result = files(payload(&input).expose(), format);
            prop_assert!(!matches!(result, Err(RenderError::NoRoom(_) | RenderError::Malformed)));
            if format == Format::Fields {
                let files: Vec<_> = result.unwrap().into_iter().collect();
                let wanted: Vec<_> =
                    fields.iter().map(|(n, v)| (format!("db/{n}"), v.clone())).collect();
                prop_assert_eq!(files, wanted);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_real_shell_reads_an_environment_back(
        values in prop::collection::vec("[\"\\\\$`'\n\r\t #=a~]{0,12}|[^\0]{0,12}", 1..8)
    ) {
        // A shell gives some names a meaning of their own (`IFS`, `PATH`): these have none.
        let names: Vec<_> = (0..values.len()).map(|at| format!("V_{at}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let input: Vec<_> =
            names.iter().zip(&values).map(|(n, v)| (*n, v.as_bytes())).collect();
        let file = rendered(&payload(&input), Format::Env).unwrap();
        let back = as_a_shell_reads(&file, &names);
        let wanted: Vec<_> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        prop_assert_eq!(back, wanted);
    }
}

#[test]
fn the_api_answers_with_key_and_value_whatever_the_fields() {
    let object = |fields: &[(&str, &[u8])]| {
        let fields: Vec<_> = fields
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), *v))
            .collect();
        let payload = Fields::encode(&fields).unwrap();
        let object = secret_object(payload.expose())?;
        Ok(String::from_utf8(object.to_vec()).unwrap())
    };
    for (fields, wanted) in [
        (
            &[("key", &b"basicauth"[..]), ("value", &b"user:\"pw\"\n"[..])][..],
            r#"{"key":"basicauth","value":"user:\"pw\"\n"}"#,
        ),
        (&[("pem", b"x")], r#"{"key":"","pem":"x","value":"x"}"#),
        (&[("a", b"1"), ("b", b"2")], r#"{"a":"1","b":"2","key":""}"#),
    ] {
        assert_eq!(object(fields), Ok(wanted.to_owned()));
    }
    let binary: &[(&str, &[u8])] = &[("key", b"k"), ("value", b"\xffhunter2")];
    let error: RenderError = object(binary).unwrap_err();
    assert_eq!(error, RenderError::NotText("value".into()));
    assert_eq!(
        secret_object(b"no payload").err(),
        Some(RenderError::Malformed)
    );
}
