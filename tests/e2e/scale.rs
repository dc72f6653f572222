//! Many services on one node.

use std::fs;

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::Value;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        fifty_services_with_two_hundred_secrets_are_delivered_and_kept_apart,
        a_thousand_secrets_of_five_services_are_delivered_and_kept_apart,
    ]
}

fn fifty_services_with_two_hundred_secrets_are_delivered_and_kept_apart() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    let names = ["a", "b", "c", "d"];
    for service in 0..50 {
        let url = format!("com.example.s{service}");
        let references = names.map(|name| format!("s{service}/{name}"));
        for reference in &references {
            admin.set(reference, reference.as_bytes());
        }
        admin
            .post("services", &plain_service(&url, &names))
            .ok::<Value>();
        let bound: Vec<_> = names
            .into_iter()
            .zip(references.iter().map(String::as_str))
            .collect();
        admin
            .put(&format!("policies/s{service}"), &policy(&url, &[], &bound))
            .ok::<Value>();
    }
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    for service in 0..50 {
        hub.await_rollout(&format!("s{service}"), 1);
    }
    let file = |service: usize, name: &str| {
        agent
            .consumer(&format!("com.example.s{service}"), "main")
            .join(name)
    };
    let mut links = Vec::new();
    for service in 0..50 {
        for name in names {
            let content = fs::read_to_string(file(service, name)).expect("readable");
            assert_eq!(content, format!("s{service}/{name}"));
        }
        links.push(fs::read_link(file(service, "..data")).expect("a link"));
    }
    // One change touches one service.
    admin.set("s7/b", b"changed");
    wait::content(&file(7, "b"), b"changed");
    for (service, link) in links.iter().enumerate() {
        let now = fs::read_link(file(service, "..data")).expect("a link");
        assert_eq!(now == *link, service != 7, "service {service}");
    }
    let fetched = hub.operator().json(&["audit"]);
    let fetched = fetched.as_array().expect("a list").iter();
    let served = fetched
        .filter(|r| r["action"] == "secret.fetch" && r["result"] == "ok")
        .count();
    assert!(served <= 201, "values are fetched once: {served}");
}

fn a_thousand_secrets_of_five_services_are_delivered_and_kept_apart() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    let names: Vec<String> = (0..200).map(|name| format!("n{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for service in 0..5 {
        let url = format!("com.example.s{service}");
        let references: Vec<_> = names
            .iter()
            .map(|name| format!("s{service}/{name}"))
            .collect();
        for reference in &references {
            admin.set(reference, reference.as_bytes());
        }
        admin
            .post("services", &plain_service(&url, &names))
            .ok::<Value>();
        let bound = names.iter().copied();
        let bound: Vec<_> = bound.zip(references.iter().map(String::as_str)).collect();
        admin
            .put(&format!("policies/s{service}"), &policy(&url, &[], &bound))
            .ok::<Value>();
    }
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    for service in 0..5 {
        hub.await_rollout(&format!("s{service}"), 1);
        let consumer = agent.consumer(&format!("com.example.s{service}"), "main");
        for name in &names {
            let content = fs::read_to_string(consumer.join(name)).expect("readable");
            assert_eq!(content, format!("s{service}/{name}"));
        }
    }
}
