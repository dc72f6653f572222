use proptest::prelude::*;

use super::*;
use crate::consumers::names::UnitName;
use crate::consumers::profile::{Action, Principal, Workload};

fn check(text: &str) -> Result<Checked, Wrong> {
    Parsed::new(text)?.check(Path::new("x.yaml"), text, |source| match source {
        "good.j2" => Ok("a = {{ secrets.a.value }}\n".to_owned()),
        "bad.j2" => Ok("a\nb = {{ secrets.\n".to_owned()),
        _ => Err("cannot be read: not there".to_owned()),
    })
}

fn one(text: &str) -> Profile {
    let checked = check(text).unwrap();
    assert_eq!(checked.warnings, [], "{text}");
    (*checked.profiles[0].1).clone()
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let profile = one("\
service: myorg/com.example.uplink
consumer: uplink
owner: uplink
group: 990
mode: 0440
format: env
secrets:
  tlsKey: { format: value_only, mode: 0400 }
templates:
  - name: uplink.conf
    text: |
      password = {{ secrets.myCloudServiceCred.value }}
    mode: 0640
  - { name: other, source: good.j2 }
on_change: { command: [/usr/local/bin/notify, uplink], user: uplink, timeout: 5s, debounce: 1s }
lifecycle: { unit: uplink.service, linger: 5s }
systemd:
  units: [uplink.service, \"uplink@.service\"]
  wait: 60s
  credentials: { dbpw: db/password }
");
    assert_eq!(profile.service.to_string(), "myorg/com.example.uplink");
    assert_eq!(profile.consumer.unwrap().as_str(), "uplink");
    let shape = profile.shape;
    assert_eq!(shape.owner, Some(Principal::Name("uplink".to_owned())));
    assert_eq!(shape.group, Some(Principal::Id(990)));
    assert_eq!(shape.mode, Some(0o440));
    assert_eq!(
        shape.format,
        Some(edge_secrets_protocol::binding::Format::Env)
    );
    assert_eq!(shape.secrets[&"tlsKey".parse().unwrap()].mode, Some(0o400));
    assert_eq!(
        shape.templates[0].text,
        "password = {{ secrets.myCloudServiceCred.value }}\n"
    );
    assert_eq!(shape.templates[0].mode, Some(0o640));
    assert_eq!(shape.templates[1].text, "a = {{ secrets.a.value }}\n");
    assert!(!shape.private);
    let on_change = profile.on_change.unwrap();
    assert_eq!(on_change.debounce, Duration::from_secs(1));
    assert_eq!(on_change.timeout, Duration::from_secs(5));
    assert_eq!(
        on_change.action,
        Action::Command {
            argv: vec!["/usr/local/bin/notify".to_owned(), "uplink".to_owned()],
            user: Some(Principal::Name("uplink".to_owned())),
        }
    );
    let unit: UnitName = "uplink.service".parse().unwrap();
    let lifecycle = profile.lifecycle.unwrap();
    assert_eq!(lifecycle.workload, Workload::Unit(unit.clone()));
    assert_eq!(lifecycle.linger, Duration::from_secs(5));
    let credentials = profile.credentials.unwrap();
    assert_eq!(
        credentials.units,
        [unit, "uplink@.service".parse().unwrap()]
    );
    assert_eq!(credentials.wait, Duration::from_secs(60));
    assert_eq!(
        credentials.ids[&"dbpw".parse().unwrap()].as_str(),
        "db/password"
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let profile = one("service: o/s\n");
    assert_eq!((profile.consumer, profile.shape), (None, Shape::default()));
    assert_eq!((profile.on_change, profile.lifecycle), (None, None));
    assert_eq!(profile.credentials, None);
    let profile = one(
        "service: o/s\non_change: { reload: a.service }\nlifecycle: { container: a }\n\
         systemd: { units: [a.service] }\n",
    );
    let on_change = profile.on_change.unwrap();
    assert_eq!(on_change.debounce, Duration::from_millis(100));
    assert_eq!(on_change.timeout, Duration::from_secs(30));
    assert_eq!(profile.lifecycle.unwrap().linger, Duration::from_secs(10));
    assert_eq!(profile.credentials.unwrap().wait, Duration::from_secs(80));
    let command = one("service: o/s\non_change: { command: [/bin/true] }\n");
    assert_eq!(command.on_change.unwrap().timeout, Duration::from_secs(60));
}

#[test]
fn every_action_is_understood() {
    let action = |text: &str| {
        let profile = one(&format!("service: o/s\non_change: {text}\n"));
        profile.on_change.map(|on_change| on_change.action)
    };
    let unit: UnitName = "u@1.service".parse().unwrap();
    let hup: crate::consumers::names::SignalName = "HUP".parse().unwrap();
    for (text, wanted) in [
        ("none", None),
        ("{ none: true }", None),
        (
            "{ reload: u@1.service }",
            Some(Action::Reload(unit.clone())),
        ),
        (
            "{ restart: u@1.service }",
            Some(Action::Restart(unit.clone())),
        ),
        (
            "{ try_restart: u@1.service }",
            Some(Action::TryRestart(unit.clone())),
        ),
        (
            "{ signal: SIGHUP, unit: u@1.service }",
            Some(Action::SignalUnit(unit.clone(), hup)),
        ),
        (
            "{ signal: HUP, container: c }",
            Some(Action::SignalContainer("c".parse().unwrap(), hup)),
        ),
    ] {
        assert_eq!(action(text), wanted, "{text}");
    }
}

#[test]
fn errors_name_the_line_and_the_reason() {
    for (text, line, reason) in [
        ("servce: o/s\n", 1, "unknown field `servce`"),
        ("owner: x\n", 1, "missing field `service`"),
        ("service: os\n", 1, "ORG/URL"),
        ("just text\n", 1, "a profile: keys and values"),
        ("service: o/s\nservice: o/t\n", 1, "duplicate field"),
        ("service: o/s\n\nmode: 440\n", 3, "write 0440"),
        (
            "service: o/s\n---\nservice: o/t\nmode: 0777\n",
            4,
            "executable",
        ),
        ("service: o/s\nformat: yaml\n", 2, "unknown variant `yaml`"),
        (
            "service: o/s\nsecrets:\n  a: {}\n  b: {}\n  a: {}\n",
            5,
            "there twice",
        ),
        ("service: o/s\nsecrets:\n  ../a: {}\n", 3, "reserved"),
        ("service: o/s\nowner: [\n", 2, "one word"),
        ("service: o/s\n\tmode: 0400\n", 2, "while "),
        ("service: o/s\non_change: {}\n", 2, "exactly one of"),
        (
            "service: o/s\non_change:\n  reload: a.service\n  restart: a.service\n",
            2,
            "exactly one of",
        ),
        ("service: o/s\non_change: never\n", 2, "an action like"),
        (
            "service: o/s\non_change:\n  reload: a@.service\n",
            3,
            "is a template",
        ),
        ("service: o/s\non_change:\n  reload: a\n", 3, "suffix"),
        (
            "service: o/s\non_change:\n  signal: HUP\n",
            3,
            "unit, container",
        ),
        (
            "service: o/s\non_change:\n  reload: a.service\n  user: x\n",
            4,
            "makes no sense",
        ),
        (
            "service: o/s\non_change:\n  command: [notify]\n",
            3,
            "absolute",
        ),
        ("service: o/s\non_change:\n  command: []\n", 3, "is empty"),
        (
            "service: o/s\non_change:\n  command: [/a, \"b\\0\"]\n",
            3,
            "NUL",
        ),
        (
            "service: o/s\non_change:\n  none: false\n",
            3,
            "true or not there",
        ),
        (
            "service: o/s\non_change: { reload: a.service,\n  timeout: 2h }\n",
            3,
            "at most 3600s",
        ),
        (
            "service: o/s\non_change: { reload: a.service, timeout: 0s }\n",
            2,
            "at least",
        ),
        (
            "service: o/s\nlifecycle: { linger: 1s }\n",
            2,
            "exactly one of",
        ),
        (
            "service: o/s\nlifecycle:\n  unit: a@.service\n",
            3,
            "is a template",
        ),
        (
            "service: o/s\nlifecycle:\n  unit: a.service\n  linger: 10\n",
            4,
            "duration",
        ),
        (
            "service: o/s\nsystemd: { wait: 1s }\n",
            2,
            "missing field `units`",
        ),
        ("service: o/s\nsystemd:\n  units: []\n", 3, "names no unit"),
        (
            "service: o/s\nsystemd:\n  units:\n  - a.service\n  - a.timer\n",
            5,
            "a.timer is not a service",
        ),
        (
            "service: o/s\nsystemd:\n  units:\n  - a.service\n  - b.service\n  - a.service\n",
            6,
            "on line 4",
        ),
        (
            "service: o/s\ntemplates:\n- name: a\n",
            3,
            "either `text` or `source`",
        ),
        (
            "service: o/s\ntemplates:\n- name: a\n  text: x\n- name: a\n  text: y\n",
            5,
            "`a` is the name of another",
        ),
        (
            "service: o/s\nsecrets: { a: {} }\ntemplates:\n- name: a\n  text: x\n",
            4,
            "`a` is the name of a secret",
        ),
        (
            "service: o/s\ntemplates:\n- name: a\n  text: |\n    one\n    two {{ secrets.\n",
            6,
            "",
        ),
        (
            "service: o/s\ntemplates:\n- name: a\n  text: \"{{\"\n",
            4,
            "",
        ),
        (
            "service: o/s\ntemplates:\n- name: a\n  source: bad.j2\n",
            4,
            "bad.j2:2: ",
        ),
        (
            "service: o/s\ntemplates:\n- name: a\n  source: no.j2\n",
            4,
            "no.j2 cannot be read",
        ),
        (
            "service: o/s\ntemplates:\n- name: a\n  source: ../x\n",
            4,
            "below the directory",
        ),
        (
            "service: o/s\n---\n# the other\nservice: o/s\nconsumer: c\n---\nservice: o/s\n",
            7,
            "once before, on line 1",
        ),
    ] {
        let wrong = check(text).unwrap_err();
        assert_eq!(wrong.line, Some(line), "{text}{}", wrong.reason);
        assert!(wrong.reason.contains(reason), "{text}{}", wrong.reason);
    }
}

#[test]
fn doubts_are_told_with_their_lines_and_in_force() {
    let checked = check(
        "service: o/s\nmode: 0444\nsecrets:\n  a:\n    mode: 0404\ntemplates:\n\
         - name: b\n  text: x\n  mode: 0402\n---\nservice: o/t\nowner: x\nfiles: false\n",
    )
    .unwrap();
    assert_eq!(checked.profiles.len(), 2);
    let lines: Vec<_> = checked.warnings.iter().map(|w| w.line.unwrap()).collect();
    assert_eq!(lines, [2, 5, 9, 12, 13]);
    for (warning, part) in checked.warnings.iter().zip([
        "mode 0444",
        "mode 0404",
        "mode 0402",
        "`owner` has no effect",
        "nobody can read",
    ]) {
        assert!(warning.reason.contains(part), "{}", warning.reason);
    }
}

#[test]
fn empty_documents_are_none() {
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "---\n---\n",
        "---\n# x\n---\nservice: o/s\n---\n",
    ] {
        let checked = check(text).unwrap();
        let wanted = usize::from(text.contains("service"));
        assert_eq!(checked.profiles.len(), wanted, "{text}");
    }
}

#[test]
fn everything_is_bounded() {
    let documents: String = (0..65).map(|n| format!("---\nservice: o/s{n}\n")).collect();
    assert!(check(&documents).unwrap_err().reason.contains("documents"));
    let arguments = "x, ".repeat(64);
    let command = format!("service: o/s\non_change: {{ command: [/a, {arguments}] }}\n");
    assert!(check(&command).unwrap_err().reason.contains("more than 64"));
    let long = format!(
        "service: o/s\non_change: {{ command: [/a, {}] }}\n",
        "x".repeat(17_000)
    );
    assert!(check(&long).unwrap_err().reason.contains("16 KiB"));
    let text = "x".repeat(65_537);
    let template = format!("service: o/s\ntemplates: [{{ name: a, text: {text} }}]\n");
    assert!(check(&template).unwrap_err().reason.contains("64 KiB"));
    let templates: String = (0..33)
        .map(|n| format!("- {{ name: a{n}, text: x }}\n"))
        .collect();
    let templates = format!("service: o/s\ntemplates:\n{templates}");
    assert!(
        check(&templates)
            .unwrap_err()
            .reason
            .contains("more than 32")
    );
    let secrets: String = (0..257).map(|n| format!("  a{n}: {{}}\n")).collect();
    let secrets = format!("service: o/s\nsecrets:\n{secrets}");
    assert!(
        check(&secrets)
            .unwrap_err()
            .reason
            .contains("more than 256")
    );
    let deep = format!("service: {}\n", "[".repeat(10_000));
    assert!(check(&deep).is_err());
}

#[test]
fn an_anchor_makes_no_file_larger_than_its_bounds() {
    let text = "x".repeat(60_000);
    let first = format!("service: o/s\ntemplates:\n- {{ name: a, text: &x {text} }}\n");
    let more: String = (0..31)
        .map(|n| format!("- {{ name: a{n}, text: *x }}\n"))
        .collect();
    let wrong = check(&(first + &more)).unwrap_err();
    assert!(wrong.reason.contains("1 MiB together"), "{}", wrong.reason);
}

#[test]
fn reasons_quote_little() {
    let pasted = "hunter2".repeat(100);
    for text in [
        format!("service: o/s\nmode: {pasted}\n"),
        format!("service: o/s\nfiles: {pasted}\n"),
        format!("service: o/s\n{pasted}: x\n"),
        format!("service: o/s\non_change: {pasted}\n"),
        format!("service: o/s\nlifecycle: {{ unit: a.service, linger: {pasted} }}\n"),
        format!("service: o/s\nsecrets: {{ {pasted}: {{}} }}\n"),
        format!("service: o/s\ntemplates: [{{ name: a, source: /{pasted} }}]\n"),
        format!("{pasted}\n"),
    ] {
        let wrong = check(&text).unwrap_err();
        assert!(
            wrong.reason.matches("hunter2").count() <= 18,
            "{}",
            wrong.reason
        );
        assert!(wrong.reason.len() <= MAX_REASON + 4, "{}", wrong.reason);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        check(&text).ok();
        locate::line(&text, 0, &[Step::Key("a"), Step::Item(1)]);
    }

    #[test]
    fn no_text_made_of_the_right_words_panics(words in prop::collection::vec(word(), 0..40)) {
        let text = words.concat();
        if let Ok(checked) = check(&text) {
            for (document, _) in &checked.profiles {
                let line = locate::line(&text, *document, &[Step::Key("service")]);
                prop_assert!(line.is_some());
            }
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "service: o/s\n",
        "service",
        "consumer: ",
        "\n",
        "\n---\n",
        "...\n",
        ": ",
        " ",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "a",
        "0440",
        "|",
        ">",
        "\n  ",
        "\n    ",
        "&x ",
        "*x",
        "!t ",
        "!!int ",
        "templates:\n",
        "- name: b\n",
        "  text: ",
        "  source: good.j2\n",
        "{{ ",
        " }}",
        "{% if",
        "on_change: ",
        "reload: u.service",
        "systemd: ",
        "units: ",
        "u.service",
        "lifecycle: ",
        "unit: ",
        "secrets:\n",
        "  k: { mode: 0400 }\n",
        "#",
        "\"",
        "'",
        "<<: ",
        "? ",
        "%YAML 1.1\n",
        "~",
        "null",
        "\t",
        "\u{feff}",
        "\0",
        "mode: 0444\n",
        "files: false\n",
    ])
}

#[test]
fn a_secrets_api_is_asked_for_or_not_and_not_without_files() {
    let said = |text: &str| one(&format!("service: myorg/a\n{text}")).secrets_api;
    assert_eq!(said(""), None);
    assert_eq!(said("secrets_api: true\n"), Some(true));
    assert_eq!(said("secrets_api: false\n"), Some(false));
    let wrong = check(
        "service: myorg/a\nfiles: false\nsecrets_api: true\nsystemd: { units: [a.service] }\n",
    );
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.line, Some(3));
    assert!(wrong.reason.contains("drop"), "{}", wrong.reason);
    assert!(check("service: myorg/a\nsecrets_api: often\n").is_err());
}

#[test]
fn what_is_for_the_agent_alone_is_no_credential() {
    let wrong = check(
        "service: myorg/a\nsystemd:\n  units: [a.service]\n  credentials: { pw: ..api/cred }\n",
    );
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.line, Some(4), "{}", wrong.reason);
}
