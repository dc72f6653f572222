//! Generated values, and what is known of secrets beside them.

use super::*;

/// A hub that opens what is set on `db`, and knows `db` as `info` says.
struct Keeper {
    hub: FakeHub,
    values: Arc<Mutex<Vec<Secret>>>,
}

impl Keeper {
    async fn new(info: Value) -> Self {
        let key = Arc::new(SealingKey::generate());
        let values = Arc::<Mutex<Vec<Secret>>>::default();
        let kept = Arc::clone(&values);
        let hub = FakeHub::start(move |asked| {
            let answer = keep(&key, &kept, &info, &asked);
            async move { answer }
        })
        .await;
        Self { hub, values }
    }

    /// Runs a command that is to go well; what it says holds no value that was set.
    async fn says(&self, line: &str) -> String {
        let ran = self.hub.run(line, b"").await;
        let said = ran.out() + &ran.err();
        let bodies: Vec<_> = self.hub.seen().into_iter().map(|a| a.body).collect();
        for value in self.values.lock().unwrap().iter() {
            for (_, value) in Fields::decode(value.expose()).unwrap().expose() {
                let shown = |text: &[u8]| text.windows(value.len()).any(|w| w == value);
                assert!(!shown(said.as_bytes()), "a value is shown");
                assert!(!bodies.iter().any(|body| shown(body)), "a value is sent");
            }
        }
        said
    }

    /// The fields that were set last.
    fn last(&self) -> Vec<(String, Vec<u8>)> {
        let values = self.values.lock().unwrap();
        let fields = Fields::decode(values.last().unwrap().expose()).unwrap();
        let fields = fields.expose();
        fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn asked(&self) -> Asked {
        self.hub.seen().pop().unwrap()
    }

    fn body(&self) -> Value {
        serde_json::from_slice(&self.asked().body).unwrap()
    }
}

fn keep(key: &SealingKey, values: &Mutex<Vec<Secret>>, info: &Value, asked: &Asked) -> Answer {
    match asked.line().as_str() {
        "GET /v1/hub" => Answer::json(&hub_info(&key.public(), "alice")),
        "GET /v1/orgs/myorg/secrets" => Answer::json(&[info]),
        "GET /v1/orgs/myorg/secrets/db" => Answer::json(info),
        "PATCH /v1/orgs/myorg/secrets/db" => {
            let mut edited = info.clone();
            edited["nodes"] = json!(2);
            Answer::json(&edited)
        }
        "PUT /v1/orgs/myorg/secrets/db" => {
            let body: SetSecret = serde_json::from_slice(&asked.body).unwrap();
            let place = Place::Set {
                org: &"myorg".parse().unwrap(),
                user: &"alice".parse().unwrap(),
                reference: "db",
            };
            let value = body.sealed.open(key, &place).unwrap();
            values.lock().unwrap().push(value);
            let warnings = ["The end of db had come"];
            Answer::json(&json!({"version": "4", "nodes": 0, "at": AT, "warnings": warnings}))
        }
        other => panic!("{other}"),
    }
}

const AT: &str = "2026-03-01T12:00:00Z";

fn plain() -> Value {
    json!({"reference": "db", "version": "3", "created_at": AT, "updated_at": AT,
           "updated_by": "alice"})
}

fn with(more: Value) -> Value {
    let mut info = plain();
    let fields = info.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    info
}

#[tokio::test]
async fn a_generated_value_is_sealed_and_shown_nowhere() {
    let keeper = Keeper::new(plain()).await;
    let options = "--length 40 --charset ascii --exclude xyz --min-digits 5 --min-symbols 5";
    for format in ["table", "json", "yaml"] {
        let line = format!("secret generate db {options} --label prod -o {format}");
        let said = keeper.says(&line).await;
        assert!(said.contains("version"), "{said}");
        let [(name, value)] = keeper.last().try_into().unwrap();
        assert_eq!((name.as_str(), value.len()), ("value", 40));
        assert!(
            value
                .iter()
                .all(|b| b.is_ascii_graphic() && !b"xyz".contains(b))
        );
        assert!(value.iter().filter(|b| b.is_ascii_digit()).count() >= 5);
    }
    let body = keeper.body();
    let generator = json!({
        "kind": "password", "field": "value", "length": 40, "charset": "ascii", "exclude": "xyz",
        "min_upper": 0, "min_lower": 0, "min_digits": 5, "min_symbols": 5,
    });
    assert_eq!(
        (&body["generator"], &body["labels"]),
        (&generator, &json!(["prod"]))
    );
    assert_eq!(keeper.asked().if_match, "");

    keeper
        .says("secret generate db --key-pair ecdsa-p256")
        .await;
    let [private, public] = keeper.last().try_into().unwrap();
    assert_eq!(
        (private.0.as_str(), public.0.as_str()),
        ("private", "public")
    );
    assert!(private.1.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
    assert!(public.1.starts_with(b"-----BEGIN PUBLIC KEY-----\n"));
}

#[tokio::test]
async fn what_no_value_can_be_is_refused_before_anything_is_sent() {
    let keeper = Keeper::new(plain()).await;
    for line in [
        "secret generate db --length 3 --min-upper 2 --min-lower 2",
        "secret generate db --charset digits --exclude 0123456789",
        "secret generate db --charset hex --min-upper 1",
        "secret generate db --length 5000",
        "secret edit db",
    ] {
        let ran = keeper.hub.run(line, b"").await;
        assert_eq!(ran.code(), 64, "{line}: {}", ran.err());
    }
    let labels: String = (0..31).map(|n| format!(" --label l{n}")).collect();
    for line in [
        "secret set db --value-file -",
        "secret edit db",
        "secret list",
    ] {
        let ran = keeper
            .hub
            .run(&format!("{line}{labels}"), CANARY.as_bytes())
            .await;
        assert_eq!(ran.code(), 64);
        assert!(
            ran.err().contains("30") && !ran.err().contains(CANARY),
            "{}",
            ran.err()
        );
    }
    assert!(keeper.hub.seen().is_empty());
}

#[tokio::test]
async fn a_rotation_is_as_the_value_was_generated_and_over_no_other() {
    let generator = json!({
        "kind": "password", "field": "pin", "length": 60, "charset": "digits",
        "min_upper": 0, "min_lower": 0, "min_digits": 0, "min_symbols": 0,
    });
    let keeper = Keeper::new(with(json!({ "generator": generator }))).await;
    keeper.says("secret rotate db").await;
    let [(name, value)] = keeper.last().try_into().unwrap();
    assert_eq!((name.as_str(), value.len()), ("pin", 60));
    assert!(value.iter().all(u8::is_ascii_digit));
    assert_eq!(keeper.asked().if_match, "\"3\"");
    let body = keeper.body();
    assert_eq!(body["generator"], generator);
    assert_eq!(body.as_object().unwrap().len(), 2, "all else stays");

    let keeper = Keeper::new(plain()).await;
    let ran = keeper.hub.run("secret rotate db", b"").await;
    assert_eq!(ran.code(), 1);
    assert!(ran.err().contains("secret generate db"), "{}", ran.err());
    assert_eq!(keeper.hub.lines(), ["GET /v1/orgs/myorg/secrets/db"]);
}

#[tokio::test]
async fn metadata_goes_with_a_value_or_alone() {
    let keeper = Keeper::new(with(json!({"labels": ["prod"], "max_versions": 9}))).await;
    let set = "secret set db --value-file - --label prod --expires never --rotate-every 90d";
    let ran = keeper.hub.run(set, CANARY.as_bytes()).await;
    ran.out();
    assert!(
        ran.err().contains("warning: The end of db"),
        "{}",
        ran.err()
    );
    let body = keeper.body();
    assert_eq!(body["expires_at"], Value::Null);
    assert!(body.as_object().unwrap().contains_key("expires_at"));
    assert_eq!(body["rotate_every_seconds"], json!(7_776_000));
    assert!(!body.as_object().unwrap().contains_key("description"));

    let text = keeper
        .says("secret edit db --no-labels --max-versions 9")
        .await;
    assert!(text.contains("is changed and 2 nodes will hear"), "{text}");
    assert!(text.contains("the last 9"), "{text}");
    assert_eq!(keeper.body(), json!({"labels": [], "max_versions": 9}));
    let json = keeper.says("secret edit db --description x -o json").await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["nodes"], &json["labels"]),
        (&json!(2), &json!(["prod"]))
    );
    let yaml = keeper.says("secret edit db --description x -o yaml").await;
    assert!(yaml.contains("max_versions: 9"), "{yaml}");
}

#[tokio::test]
async fn lists_say_what_to_look_after() {
    let keeper = Keeper::new(with(json!({
        "labels": ["eu", "prod"], "description": "the database", "expires_at": AT,
        "expired": true, "rotate_every_seconds": 3600, "rotation_due_at": AT,
    })))
    .await;
    let table = keeper
        .says("secret list db --label prod --label eu --due")
        .await;
    let query = "prefix=db&labels=eu%2Cprod&due=true";
    assert_eq!(keeper.asked().query, query);
    assert!(table.contains("eu,prod  expired"), "{table}");
    assert!(table.contains("rotation due since 2026-03-01"), "{table}");
    let shown = keeper.says("secret show db").await;
    for text in [
        "the database",
        "no node gets it",
        "every 1h, rotation due since",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    for line in ["secret list -o json", "secret list -o yaml"] {
        let said = keeper.says(line).await;
        assert!(
            said.contains("rotation_due_at") && said.contains("expired"),
            "{said}"
        );
    }
    assert_eq!(keeper.asked().query, "");
}
