use edge_secrets_protocol::Generation;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// One line of the format, read without any knowledge of how it was written.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// A reader of the format by its description: every sample belongs to the family announced last.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let mut samples: Vec<Sample> = Vec::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(
                !help.is_empty() && !samples.iter().any(|s| s.name == name),
                "{line}"
            );
            family = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
        } else {
            let sample = sample(line);
            assert_eq!(sample.name, family, "{line}");
            let legal = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(sample.name.chars().all(legal), "{line}");
            let same = |s: &Sample| s.name == sample.name && s.labels == sample.labels;
            assert!(!samples.iter().any(same), "twice: {line}");
            samples.push(sample);
        }
    }
    samples
}

fn sample(line: &str) -> Sample {
    let mut rest = line.chars().peekable();
    let mut name = String::new();
    while let Some(c) = rest.next_if(|c| !" {".contains(*c)) {
        name.push(c);
    }
    let mut labels = Vec::new();
    if rest.next_if_eq(&'{').is_some() {
        loop {
            let label: String = std::iter::from_fn(|| rest.next_if(|c| *c != '=')).collect();
            assert_eq!((rest.next(), rest.next()), (Some('='), Some('"')));
            let mut text = String::new();
            loop {
                match rest.next().unwrap() {
                    '"' => break,
                    '\\' => text.push(match rest.next().unwrap() {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        other => panic!("escape {other}"),
                    }),
                    '\n' => panic!("a line ends in a label"),
                    other => text.push(other),
                }
            }
            labels.push((label, text));
            match rest.next().unwrap() {
                ',' => {}
                '}' => break,
                other => panic!("{other} after a label"),
            }
        }
    }
    assert_eq!(rest.next(), Some(' '));
    let value = rest.collect::<String>().parse().unwrap();
    Sample {
        name,
        labels,
        value,
    }
}

fn status() -> AgentStatus {
    let service = |policy: &str, state: &str| {
        json!({
            "deployment": "d1", "service": {"org": "myorg", "url": "a\\b\"c"},
            "service_version": "1.2.3", "policy": policy, "state": state,
            "since": "2026-01-01T00:00:00Z",
            "secrets": [{"name": "aSecretsName", "state": "applied", "version": "aVersion",
                         "since": "2026-01-02T00:00:00Z", "expires_at": "2026-01-01T00:00:20Z"}],
            "consumers": [{"name": "main", "directory": "/run/x", "on_change": {
                "action": "reload x.service", "state": "failing", "failures": 2,
                "since": "2026-01-02T00:00:00Z"}}],
        })
    };
    serde_json::from_value(json!({
        "agent_version": "0.1.0", "org": "myorg", "node": "edge-01",
        "hub": {"url": "https://hub:1", "state": "connected", "since": "2026-01-01T00:00:00Z",
                "certificate_not_after": "2026-01-01T00:00:10Z"},
        "generation": 7, "protection": [],
        "services": [service("p", "applied"), service("p", "wiped"), service("q", "blocked")],
        "profile_problems": [{"file": "a.yaml", "reason": "aReason", "effect": "warning"}],
    }))
    .unwrap()
}

#[test]
fn the_whole_text_is_well_formed_and_says_how_things_stand() {
    let counters = Counters::default();
    counters.deliveries.add(3);
    counters.pulls.increment();
    counters.contacted(Timestamp::from_second(42).unwrap());
    let text = render(&status(), &counters);
    let samples = parse(&text);
    let value = |name: &str, labels: &[(&str, &str)]| {
        let found = samples.iter().find(|sample| {
            let has = |(label, text): &(&str, &str)| {
                sample.labels.iter().any(|(l, t)| l == label && t == text)
            };
            sample.name == format!("{PREFIX}{name}") && labels.iter().all(has)
        });
        found
            .unwrap_or_else(|| panic!("{name} {labels:?} in\n{text}"))
            .value
    };
    assert_eq!(value("agent_info", &[("version", "0.1.0")]), 1.0);
    assert_eq!(value("hub_connected", &[]), 1.0);
    assert_eq!(value("generation", &[]), 7.0);
    assert_eq!(
        value("hub_certificate_expiry_timestamp_seconds", &[]),
        1_767_225_610.0
    );
    assert_eq!(value("last_contact_timestamp_seconds", &[]), 42.0);
    assert_eq!(value("profile_problems", &[]), 1.0);
    assert_eq!(value("on_change_failing", &[]), 3.0);
    assert_eq!(value("deployments", &[("state", "blocked")]), 1.0);
    assert_eq!(value("deployments", &[("state", "pending")]), 0.0);
    assert_eq!(value("deliveries_total", &[]), 3.0);
    assert_eq!(value("pulls_total", &[]), 1.0);
    // Two deployments of one service by one policy are one line.
    let service = [("service", "a\\b\"c"), ("org", "myorg")];
    let state = |policy, state| {
        value(
            "service_state",
            &[&service[..], &[("policy", policy), ("state", state)]].concat(),
        )
    };
    assert_eq!((state("p", "applied"), state("p", "wiped")), (1.0, 1.0));
    assert_eq!((state("q", "applied"), state("q", "blocked")), (0.0, 1.0));
    let ends = [&service[..], &[("policy", "p")]].concat();
    assert_eq!(
        value("service_expiry_timestamp_seconds", &ends),
        1_767_225_620.0
    );
}

#[test]
fn no_secrets_name_and_no_version_of_one_is_told() {
    let text = render(&status(), &Counters::default());
    for kept in ["aSecretsName", "aVersion", "aReason", "/run/x"] {
        assert!(!text.contains(kept), "{kept} in\n{text}");
    }
}

#[test]
fn a_new_agent_without_anything_is_well_formed_too() {
    let mut status = status();
    status.services.clear();
    status.hub.certificate_not_after = None;
    status.generation = Generation::default();
    let samples = parse(&render(&status, &Counters::default()));
    assert!(
        !samples
            .iter()
            .any(|sample| sample.name.contains("last_contact"))
    );
    assert!(!samples.iter().any(|sample| sample.name.contains("expiry")));
}

proptest! {
    #[test]
    fn any_label_comes_back_as_it_was(texts in prop::collection::vec("[\\PC\n\\\\\"{},= \t\r]{0,20}", 1..4)) {
        let mut text = Exposition::default();
        text.family("x", "gauge", "h");
        let labels: Vec<_> = texts.iter().map(|text| ("l", text.as_str())).collect();
        text.sample("x", &labels, 1.5);
        let line = text.0.split_inclusive('\n').skip(2).collect::<String>();
        let read = sample(line.strip_suffix('\n').unwrap());
        let told: Vec<_> = read.labels.into_iter().map(|(_, text)| text).collect();
        prop_assert_eq!(told, texts);
        prop_assert_eq!(read.value, 1.5);
    }
}
