//! The reasons.

use super::*;

fn verdicts(node: &NodeView, definitions: &Definitions) -> Vec<Verdict> {
    super::super::explain(&org(), node, definitions)
}

fn lines(verdict: &Verdict) -> Vec<String> {
    let mark = |rule: &Rule| if rule.holds { "yes" } else { "no" };
    let line = |rule: &Rule| format!("{} {}: {}", mark(rule), rule.rule, rule.detail);
    verdict.rules.iter().map(line).collect()
}

#[test]
fn every_rule_is_shown_with_the_values_that_decided_it() {
    let verdict = verdicts(&berlin(), &uplink()).remove(0);
    assert!(verdict.placed.is_some());
    assert_eq!(
        lines(&verdict),
        [
            "yes arch: the policy wants any arch, the node is amd64",
            "yes policy constraint: site == berlin AND openhorizon.memory >= 512: \
             openhorizon.memory is 2048, site is \"berlin\"",
            "yes service version: myorg/com.example.uplink 1.0.0 for amd64, priority 2",
            "yes binding: myCloudServiceCred to cloudServiceXYZSecret (secretBinding[0].secrets[0]), \
             tlsKey to user/alice/uplink-tls-key (secretBinding[0].secrets[1])",
        ]
    );
}

/// Inside `AND` and `OR`: the comparison that failed, and what it saw.
#[test]
fn the_term_that_failed_is_named() {
    let stated = json!({"site": "berlin", "openhorizon.memory": 1});
    let mut text: Value = serde_json::from_str(UPLINK_POLICY).unwrap();
    text["constraints"] = json!([
        "site == berlin AND openhorizon.memory >= 4096",
        "zone == a || rack > 1"
    ]);
    let definitions = definitions(
        vec![service(UPLINK)],
        vec![policy("uplink", "alice", &text.to_string())],
    );
    let verdict = verdicts(&node("n", None, "amd64", stated), &definitions).remove(0);
    assert_eq!(
        lines(&verdict)[1..3],
        [
            "no policy constraint: site == berlin AND openhorizon.memory >= 4096: openhorizon.memory >= \
             4096 fails, openhorizon.memory is 2048",
            "no policy constraint: zone == a || rack > 1: none of the alternatives holds: zone == a \
             fails, zone is absent, rack > 1 fails, rack is absent",
        ]
    );
}

#[test]
fn the_rules_after_the_first_that_fails_are_shown_too() {
    let refusing = json!({"constraints": ["tier == test"]});
    let stated = json!({"site": "paris", "node policy": refusing});
    let verdict = verdicts(&node("n", None, "amd64", stated), &uplink()).remove(0);
    assert_eq!(verdict.placed, None);
    let failed: Vec<_> = verdict.rules.iter().filter(|rule| !rule.holds).collect();
    let names: Vec<_> = failed.iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(names, ["policy constraint", "node constraint"]);
    assert_eq!(
        failed[1].detail,
        "tier == test: tier is \"prod\" (version 1.0.0)"
    );
}

#[test]
fn an_unbound_secret_and_a_missing_definition_are_named() {
    let mut text = plain_policy(&["9", "2.0.0", "1.0.0"], "", "x");
    text["secretBinding"] = json!([]);
    let definitions = definitions(
        vec![plain_service("1.0.0", ""), plain_service("2.0.0", "arm64")],
        vec![policy("p", "bob", &text.to_string())],
    );
    let verdict = verdicts(&berlin(), &definitions).remove(0);
    assert_eq!(
        lines(&verdict)[1..],
        [
            "no service version: myorg/u 9 is not published",
            "no service version: myorg/u 2.0.0 is published for arm64; the node is amd64",
            "yes service version: myorg/u 1.0.0 for any arch, priority 3",
            "no binding: No secret binding found for the following service secrets: [s] (version \
             1.0.0)",
        ]
    );
}

#[test]
fn of_two_policies_for_one_service_the_first_by_name_wins_and_both_say_so() {
    let text = plain_policy(&["1.0.0"], "", "x").to_string();
    let definitions = definitions(
        vec![plain_service("1.0.0", "")],
        vec![
            policy("zeta", "bob", &text),
            policy("alpha", "bob", &text),
            policy("beta", "bob", &text),
        ],
    );
    let verdicts = verdicts(&berlin(), &definitions);
    let names: Vec<_> = verdicts
        .iter()
        .map(|verdict| verdict.policy.to_string())
        .collect();
    assert_eq!(names, ["alpha", "beta", "zeta"]);
    let winners: Vec<_> = verdicts
        .iter()
        .map(|verdict| verdict.placed.is_some())
        .collect();
    assert_eq!(winners, [true, false, false]);
    let last = |at: usize| lines(&verdicts[at]).pop().unwrap();
    assert_eq!(
        last(0),
        "yes one policy per service: comes before beta, zeta by name"
    );
    let lost = "no one policy per service: policy alpha deploys myorg/u here: its name comes first";
    assert_eq!((last(1).as_str(), last(2).as_str()), (lost, lost));
}

#[test]
fn a_policy_that_does_not_match_stands_in_nobodys_way() {
    let text = plain_policy(&["1.0.0"], "", "x");
    let mut elsewhere = text.clone();
    elsewhere["constraints"] = json!(["site == paris"]);
    let definitions = definitions(
        vec![plain_service("1.0.0", "")],
        vec![
            policy("alpha", "bob", &elsewhere.to_string()),
            policy("beta", "bob", &text.to_string()),
        ],
    );
    let placed: Vec<_> = verdicts(&berlin(), &definitions)
        .into_iter()
        .map(|v| v.placed.is_some())
        .collect();
    assert_eq!(placed, [false, true]);
}

#[test]
fn a_denied_secret_is_explained_and_still_placed() {
    let stated = json!({"site": "berlin"});
    let verdict = verdicts(&node("n", Some("bob"), "amd64", stated), &uplink()).remove(0);
    assert!(verdict.placed.is_some());
    assert_eq!(
        lines(&verdict).pop().unwrap(),
        "no secret scope: user/alice/uplink-tls-key is denied: alice owns the policy and bob the \
         node n"
    );
}
