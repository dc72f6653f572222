use std::process::Command;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn plain_text_stays_as_it_is(text in "([^{#%}\r]|\n){0,200}") {
        prop_assert_eq!(rendered(&text, &usual()).unwrap(), text.clone());
        prop_assert_eq!(reads(&text), Some(Vec::new()));
    }

    #[test]
    fn filters_can_be_undone(value in any::<String>(), raw in prop::collection::vec(any::<u8>(), 0..50)) {
        let world = world(&[("a", &[("text", value.as_bytes()), ("raw", &raw)])]);
        let json = rendered("{{ secrets.a.text | json }}", &world).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value.clone());
        let encoded = rendered("{{ secrets.a.raw | b64encode }}", &world).unwrap();
        prop_assert_eq!(data_encoding::BASE64.decode(encoded.as_bytes()).unwrap(), raw.clone());
        let encoded = rendered("{{ secrets.a.raw | urlencode }}", &world).unwrap();
        let mut decoded = Vec::new();
        let mut parts = encoded.split('%');
        decoded.extend(parts.next().unwrap().bytes());
        for part in parts {
            decoded.push(u8::from_str_radix(&part[..2], 16).unwrap());
            decoded.extend(part[2..].bytes());
        }
        prop_assert_eq!(decoded, raw);
        let indented = rendered("{{ secrets.a.text | indent(3) }}", &world).unwrap();
        prop_assert_eq!(indented.replace("\n   ", "\n"), value.replace("\n   ", "\n"));
    }

    #[test]
    fn foreign_templates_neither_panic_nor_show_a_value(
        parts in prop::collection::vec(prop::sample::select(PIECES), 0..24)
    ) {
        let text = parts.concat();
        let checked = check(&text);
        match rendered(&text, &usual()) {
            Ok(_) => prop_assert!(checked.is_ok()),
            Err(error) => {
                let told = format!("{error} {error:?}");
                prop_assert!(!told.contains(CANARY) && !told.contains("canary"), "{}: {}", text, told);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_real_shell_reads_what_sh_quotes(value in "[\"\\\\$`'\n\r\t #=a~]{0,12}|[^\0]{0,12}") {
        let world = world(&[("a", &[("value", value.as_bytes())])]);
        let script = rendered("printf %s {{ secrets.a.value | sh }}", &world).unwrap();
        let output = Command::new("/bin/sh").args(["-euc", &script]).output().unwrap();
        prop_assert!(output.status.success());
        prop_assert_eq!(output.stdout, value.as_bytes());
    }
}

/// Parts of templates, of which most random sequences are none and some are.
const PIECES: &[&str] = &[
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{% endif %}",
    "{% endfor %}",
    "{% else %}",
    "secrets",
    ".db",
    ".password",
    "{{ secrets.db.password }}",
    "{{ secrets.blob.value | b64encode }}",
    "{% for x in secrets.db %}",
    "{% if secrets.db.user %}",
    "{% for x in secrets %}",
    "{{ secrets[x] }}",
    "{{ secrets.db[x] }}",
    "{{ x }}",
    " | sh",
    " | json",
    " | indent(",
    ")",
    "[",
    "]",
    "'a'",
    " ~ ",
    " + ",
    " - ",
    " == ",
    " in ",
    "secrets.db.password",
    "secrets.blob.value",
    "secrets['tls-key'].pem",
    "x",
    "1",
    "loop.index",
    "\n",
    "{#",
    "#}",
];
