mod generated;

use edge_secrets_protocol::{FieldName, Secret};

use super::*;

type World = Vec<(SecretName, Secret)>;

type Content<'a> = (&'a str, &'a [u8]);

fn world(secrets: &[(&str, &[Content<'_>])]) -> World {
    let secrets = secrets.iter().map(|(name, fields)| {
        let fields: Vec<(FieldName, &[u8])> = fields
            .iter()
            .map(|(field, value)| (field.parse().unwrap(), *value))
            .collect();
        (name.parse().unwrap(), Fields::encode(&fields).unwrap())
    });
    secrets.collect()
}

fn usual() -> World {
    world(&[
        ("db", &[("user", b"app"), ("password", CANARY.as_bytes())]),
        (
            "tls-key",
            &[("pem", b"-----BEGIN-----\nabc\n-----END-----\n")],
        ),
        ("blob", &[("value", b"\xff\x00canary")]),
    ])
}

fn render_into(text: &str, world: &World, out: &mut [u8]) -> Result<usize, RenderError> {
    let secrets: Vec<_> = world
        .iter()
        .map(|(name, secret)| (name, Fields::decode(secret.expose()).unwrap()))
        .collect();
    render_template(text, &"app.conf".parse().unwrap(), &secrets, out)
}

fn rendered(text: &str, world: &World) -> Result<String, RenderError> {
    let mut out = vec![0; MAX_RENDERED];
    let len = render_into(text, world, &mut out)?;
    out.truncate(len);
    Ok(String::from_utf8(out).unwrap())
}

fn failure(text: &str, world: &World) -> String {
    let error = rendered(text, world).unwrap_err();
    let (shown, debug) = (error.to_string(), format!("{error:?}"));
    for canary in [CANARY, &CANARY[4..], "canary"] {
        assert!(!shown.contains(canary), "{text}: {shown}");
        assert!(!debug.contains(canary), "{text}: {debug}");
    }
    assert!(shown.starts_with("template app.conf"), "{shown}");
    shown
}

fn refusal(text: &str) -> String {
    let error = check(text).unwrap_err();
    format!("{}: {error}", error.line.map_or(0, |line| line))
}

fn reads(text: &str) -> Option<Vec<String>> {
    let names = check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    names.map(|names| names.iter().map(ToString::to_string).collect())
}

#[test]
fn a_whole_config_file_is_made_of_several_secrets() {
    let text = "\
# made by edge-secrets
url = postgres://{{ secrets.db.user }}:{{ secrets.db.password | urlencode }}@db/app
{% if secrets.db.port is defined %}
port = {{ secrets.db.port }}
{% endif %}
{% for field in secrets.db %}
{{ field }} = {{ secrets.db[field] | json }}
{% endfor %}
key: |
  {{ secrets[\"tls-key\"].pem | trim | indent(2) }}
blob = {{ secrets.blob.value | b64encode }}
";
    let expected = "\
# made by edge-secrets
url = postgres://app:hun%27ter2-x%22Qz@db/app
password = \"hun'ter2-x\\\"Qz\"
user = \"app\"
key: |
  -----BEGIN-----
  abc
  -----END-----
blob = /wBjYW5hcnk=
";
    assert_eq!(rendered(text, &usual()).unwrap(), expected);
    assert_eq!(reads(text).unwrap(), ["blob", "db", "tls-key"]);
}

#[test]
fn what_a_template_reads_is_told_before_it_runs() {
    assert_eq!(reads("no secret at all").unwrap(), [""; 0]);
    assert_eq!(
        reads("{{ secrets.a.value }}{{ secrets['b-c']['d'] }}").unwrap(),
        ["a", "b-c"]
    );
    assert_eq!(
        reads("{% set a = secrets.a %}{{ a.value ~ secrets.b.x }}").unwrap(),
        ["a", "b"]
    );
    assert_eq!(
        reads("{% for f in secrets.a %}{{ secrets.a[f] }}{% endfor %}").unwrap(),
        ["a"]
    );
    assert_eq!(
        reads("{# secrets.a.b #}{% raw %}{{ secrets.a.b }}{% endraw %}").unwrap(),
        [""; 0]
    );
    assert_eq!(reads("{{ 'secrets.a.b' }}").unwrap(), [""; 0]);
    assert_eq!(
        reads("{% if secrets.a.x is defined and secrets.b.y == 'z' %}{% elif secrets.c.v %}{% endif %}")
            .unwrap(),
        ["a", "b", "c"]
    );
    for all in [
        "{% for name in secrets %}{{ name }}{% endfor %}",
        "{% set n = 'a' %}{{ secrets[n].value }}",
        "{{ secrets[secrets.a.value].value }}",
        "{% if 'tls' in secrets %}x{% endif %}",
        "{% set s = secrets %}{{ s.a.b }}",
        "{% with s = [secrets] %}{{ s[0].a.b }}{% endwith %}",
    ] {
        assert_eq!(reads(all), None, "{all}");
    }
}

#[test]
fn what_could_only_fail_is_refused_with_its_line() {
    for (text, expected) in [
        ("a\n{{ secrets.db.x", "2: "),
        (
            "a\nb\n{{ secret.db.x }}",
            "3: unknown name `secret`: write secrets.NAME.FIELD",
        ),
        (
            "{{ secrets.db.x | upper }}",
            "1: unknown filter `upper`; there are `b64encode`",
        ),
        (
            "{{ secrets.db.x | default('') }}",
            "1: unknown filter `default`",
        ),
        (
            "\n{% filter upper %}a{% endfilter %}",
            "2: unknown filter `upper`",
        ),
        (
            "{% if secrets.a.b is none %}{% endif %}",
            "1: unknown test `none`",
        ),
        ("{{ 1 - 2 }}", "1: templates do not compute"),
        ("{{ secrets.a.b[1:] }}", "1: templates do not cut values"),
        ("{{ range(3) }}", "1: there are no functions"),
        (
            "{% for x in [1] %}{{ loop.cycle() }}{% endfor %}",
            "1: there are no functions",
        ),
        (
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "1: there are no functions",
        ),
        ("{% do f() %}", "1: there are no functions"),
        ("{{ secrets.a.b.upper() }}", "1: there are no functions"),
        ("{% include 'x' %}", "1: "),
        ("{% macro a() %}{% endmacro %}", "1: "),
        (
            "{% autoescape true %}{% endautoescape %}",
            "1: `autoescape`",
        ),
        ("{{ 'ab' * 50000000 }}", "1: templates do not compute"),
        ("{% set secrets = 1 %}", "1: `secrets` cannot be set"),
        (
            "{% for secrets in [1] %}{% endfor %}",
            "1: `secrets` cannot be set",
        ),
        ("{{ 'a' if secrets.a.b }}", "1: `if` lacks its `else`"),
        (
            "{{ secrets['..'].value }}",
            "1: secret name \"..\" is reserved",
        ),
    ] {
        let told = refusal(text);
        assert!(told.starts_with(expected), "{text}: {told}");
        let error = rendered(text, &usual()).unwrap_err();
        assert!(
            matches!(error, RenderError::Template { .. }),
            "{text}: {error}"
        );
    }
}

#[test]
fn texts_are_bounded_in_length_and_depth() {
    assert!(check(&"a".repeat(MAX_TEMPLATE)).is_ok());
    assert!(refusal(&"a".repeat(MAX_TEMPLATE + 1)).contains("larger than 65536 bytes"));
    for part in ["~a", ".a", "|trim", "[0]", "+1", " and 1"] {
        let tag = format!("{{% set a = 'a' %}}{{{{ a{} }}}}", part.repeat(8000));
        assert!(refusal(&tag).contains("this tag is too long"), "{part}");
    }
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}")] {
        let tag = format!("{{{{ {}1{} }}}}", open.repeat(250), close.repeat(250));
        assert!(check(&tag).is_err(), "{open}");
    }
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for x in [1] %}", "{% endfor %}"),
    ] {
        let nested = open.repeat(1000) + &close.repeat(1000);
        assert!(check(&nested).is_err(), "{open}");
    }
    let branches = |many: usize| {
        "{% if false %}{% endif %}"
            .replace("}{%", &format!("}}{}{{%", "{% elif false %}".repeat(many)))
    };
    assert_eq!(check(&branches(40)), Ok(Some(BTreeSet::new())));
    assert!(check(&branches(4000)).is_err());
}

#[test]
fn what_is_not_there_is_an_error_that_names_it_and_its_line() {
    for (text, expected) in [
        (
            "a\n{{ secrets.db.pasword }}",
            "line 2: secret `db` has no field `pasword`",
        ),
        (
            "{{ secrets['db']['pasword'] }}",
            "line 1: secret `db` has no field `pasword`",
        ),
        (
            "\n\n{{ secrets.bd.password }}",
            "line 3: there is no secret `bd`",
        ),
        (
            "{{ secrets['b d'].password }}",
            "line 1: there is no secret `b d`",
        ),
        (
            "{{ secrets.db.pasword | sh }}",
            "line 1: secret `db` has no field `pasword`",
        ),
        (
            "{{ secrets.db.pasword | b64encode }}",
            "line 1: secret `db` has no field `pasword`",
        ),
        (
            "{{ 'x' ~ secrets.db.pasword }}",
            "line 1: secret `db` has no field `pasword`",
        ),
        (
            "{% if secrets.db.pasword %}{% endif %}",
            "line 1: secret `db` has no field",
        ),
        (
            "{% if secrets.db.pasword == '' %}{% endif %}",
            "line 1: secret `db` has no field",
        ),
        (
            "{% for c in secrets.db.pasword %}{% endfor %}",
            "line 1: secret `db` has no field",
        ),
        (
            "{{ secrets.db.password.deeper }}",
            "line 1: it reads a name, secret or field",
        ),
        (
            "{{ secrets.bd.password.deeper }}",
            "line 1: there is no secret `bd`",
        ),
        (
            "{% if false %}{% set a = 1 %}{% endif %}\n{{ a }}",
            "line 2: it reads a name",
        ),
        ("{{ loop }}", "line 1: it reads a name"),
        (
            "{% set d = secrets.db %}{{ d.nope }}",
            "line 1: it reads a name, secret or field",
        ),
    ] {
        let told = failure(text, &usual());
        assert!(told.contains(expected), "{text}: {told}");
    }
}

#[test]
fn what_is_not_text_is_written_as_base64_alone() {
    for text in [
        "{{ secrets.blob.value }}",
        "{{ secrets.blob.value | json }}",
        "{{ secrets.blob.value | sh }}",
        "{{ 'x' ~ secrets.blob.value }}",
        "{{ ['x', secrets.blob.value] }}",
        "{% set x = 'a' ~ secrets.blob.value %}nothing is printed",
        "{% if secrets.blob.value in 'text' %}{% endif %}",
    ] {
        let told = failure(text, &usual());
        assert!(
            told.contains("`secrets.blob.value` is not UTF-8 text; write it with `b64encode`"),
            "{text}: {told}"
        );
    }
    let encoded = rendered("{{ secrets.blob.value | urlencode }}", &usual()).unwrap();
    assert_eq!(encoded, "%FF%00canary");
}

#[test]
fn a_whole_secret_is_not_printed() {
    for (text, expected) in [
        (
            "\n{{ secrets.db }}",
            "line 2: secret `db` is used as text; name one of its fields",
        ),
        ("{{ secrets }}", "line 1: `secrets` is used as text"),
        ("{{ [secrets.db] }}", "secret `db` is used as text"),
        ("{{ 'a' ~ secrets }}", "`secrets` is used as text"),
        (
            "{{ secrets.db | b64encode }}",
            "`b64encode` takes text, like secrets.NAME.FIELD",
        ),
    ] {
        let told = failure(text, &usual());
        assert!(told.contains(expected), "{text}: {told}");
    }
}

#[test]
fn no_failure_shows_a_value() {
    let p = "secrets.db.password";
    for text in [
        "{{ P + 1 }}",
        "{{ P - P }}",
        "{{ P / 2 }}",
        "{{ P // 0 }}",
        "{{ P % P }}",
        "{{ -P }}",
        "{{ 1 + P }}",
        "{{ [P] - 1 }}",
        "{{ P in 5 }}",
        "{{ P.nope.deeper }}",
        "{{ P[P] }}",
        "{{ P[P:] }}",
        "{{ P[::0] }}",
        "{{ secrets[P].value }}",
        "{{ secrets.db[P] }}",
        "{{ secrets.db[P].deeper }}",
        "{{ {P: 1}[1] }}",
        "{{ {P: P}.nope }}",
        "{{ P | indent(P) }}",
        "{{ P | indent(-1) }}",
        "{{ P | indent(65) }}",
        "{{ P | indent }}",
        "{{ P | indent(2, P) }}",
        "{{ P | json(P) }}",
        "{{ P | trim(x=P) }}",
        "{{ [P] | sh }}",
        "{{ {'a': P} | json }}",
        "{{ P | sh(**P) }}",
        "{{ P | sh(*1) }}",
        "{% for a, b in [P] %}{{ a }}{% endfor %}",
        "{% for a, b in [[P, P, P]] %}{{ a }}{% endfor %}",
        "{% for x in 5 ~ P %}{{ x.y.z }}{% endfor %}",
        "{% for x in [P] recursive %}{{ loop(x ~ 1) }}{% endfor %}",
        "{% for x in [P] recursive %}{{ loop(5) }}{% endfor %}",
        "{% for x in [P] %}{{ loop.nope }}{% endfor %}",
        "{% for x in [P] %}{{ loop.nope(P) }}{% endfor %}",
        "{% for x in [P] %}{{ loop(P) }}{% endfor %}",
        "{% for x in [P] %}{{ loop.cycle() }}{% endfor %}",
        "{% set P.x = 1 %}",
        "{% set x = P %}{{ x.y }}",
        "{% with x = P %}{{ x.y }}{% endwith %}",
        "{% set x | nope %}{{ P }}{% endset %}",
        "{% filter indent(P) %}a{% endfilter %}",
        "{{ P }}{{ secrets.blob.value }}",
    ] {
        failure(&text.replace('P', p), &usual());
    }
}

#[test]
fn a_template_cannot_go_on_for_ever() {
    let long = "x".repeat(5000);
    let world = world(&[("a", &[("value", long.as_bytes())])]);
    let v = "secrets.a.value";
    let told = failure(
        &format!("{{% for x in {v} %}}{{% for y in {v} %}}{{% endfor %}}{{% endfor %}}"),
        &world,
    );
    assert!(told.contains("takes more than 100000 steps"), "{told}");
}

#[test]
fn a_file_has_its_room_and_no_more() {
    let text = "{{ secrets.db.user }} {{ secrets.db.password }}\n";
    let whole = rendered(text, &usual()).unwrap();
    for room in 0..whole.len() {
        let mut out = vec![0; room];
        let error = render_into(text, &usual(), &mut out).unwrap_err();
        assert_eq!(error, RenderError::NoRoom(room));
    }
    let mut exact = vec![0; whole.len()];
    assert_eq!(
        render_into(text, &usual(), &mut exact).unwrap(),
        whole.len()
    );
    assert_eq!(exact, whole.as_bytes());

    let large = "x".repeat(500 * 1024);
    let world = world(&[("a", &[("value", large.as_bytes())])]);
    let mut out = vec![0; 2 * MAX_RENDERED];
    let thrice = "{{ secrets.a.value }}".repeat(3);
    assert_eq!(
        render_into(&thrice, &world, &mut out).unwrap_err(),
        RenderError::NoRoom(MAX_RENDERED)
    );
    assert!(out[MAX_RENDERED..].iter().all(|byte| *byte == 0));
}

/// What a failing template must never show.
const CANARY: &str = "hun'ter2-x\"Qz";
