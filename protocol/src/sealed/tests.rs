use proptest::prelude::*;

use super::*;

struct Names {
    org: OrgId,
    node: NodeId,
    service: ServiceId,
    name: SecretName,
    version: SecretVersion,
}

impl Names {
    fn new(node: &str, version: &str) -> Self {
        Self {
            org: "myorg".parse().unwrap(),
            node: node.parse().unwrap(),
            service: "myorg/com.example.uplink".parse().unwrap(),
            name: "myCloudServiceCred".parse().unwrap(),
            version: version.parse().unwrap(),
        }
    }

    fn place(&self) -> Place<'_> {
        Place::Node {
            org: &self.org,
            node: &self.node,
            service: &self.service,
            name: &self.name,
            version: &self.version,
        }
    }
}

#[test]
fn a_value_opens_where_it_was_sealed_for_and_nowhere_else() {
    let key = SealingKey::generate();
    let here = Names::new("edge-01", "1");
    let value = Secret::new(b"hunter2".to_vec());
    let sealed = key.public().seal(&here.place(), &value).unwrap();

    assert_eq!(
        sealed.open(&key, &here.place()).unwrap().expose(),
        b"hunter2"
    );
    for elsewhere in [Names::new("edge-02", "1"), Names::new("edge-01", "2")] {
        let refused = sealed.open(&key, &elsewhere.place());
        assert_eq!(refused.err(), Some(SealError::Rejected));
    }
    let refused = sealed.open(&SealingKey::generate(), &here.place());
    assert_eq!(refused.err(), Some(SealError::Rejected));
}

#[test]
fn an_engines_key_is_for_one_engine_and_is_no_secrets_value() {
    let key = SealingKey::generate();
    let (org, user) = ("myorg".parse().unwrap(), "root".parse().unwrap());
    let (org, user) = (&org, &user);
    let engine = |manager, name| Place::Engine {
        org,
        user,
        manager,
        name,
    };
    let value = Secret::new(b"hunter2".to_vec());
    let sealed = key.public().seal(&engine("ibm", "e1"), &value).unwrap();
    assert!(sealed.open(&key, &engine("ibm", "e1")).is_ok());
    let reference = "ibm:e1";
    let set = Place::Set {
        org,
        user,
        reference,
    };
    for elsewhere in [engine("ibm", "e2"), engine("ibm2", "e1"), set] {
        let refused = sealed.open(&key, &elsewhere);
        assert_eq!(refused.err(), Some(SealError::Rejected));
    }
}

#[test]
fn a_failed_opening_leaves_nothing_in_the_room() {
    let key = SealingKey::generate();
    let here = Names::new("edge-01", "1");
    let sealed = key
        .public()
        .seal(&here.place(), &Secret::new(b"hunter2".to_vec()))
        .unwrap();
    let mut room = [7; 64];
    let elsewhere = Names::new("edge-02", "1");
    assert!(
        sealed
            .open_into(&key, &elsewhere.place(), &mut room)
            .is_err()
    );
    assert_eq!(room, [0; 64]);
    assert!(sealed.open_into(&key, &here.place(), &mut [0; 3]).is_err());
}

#[test]
fn many_values_of_one_exchange_open_in_any_order() {
    let key = SealingKey::generate();
    let (one, two) = (
        key.public().sealer().unwrap(),
        key.public().sealer().unwrap(),
    );
    let here = Names::new("edge-01", "1");
    let seal = |sealer: &Sealer, text: &str| {
        let value = Secret::new(text.into());
        sealer.seal(&here.place(), &value).unwrap()
    };
    let sealed = [
        seal(&one, "a"),
        seal(&two, "b"),
        seal(&one, "c"),
        seal(&one, "a"),
    ];
    for (at, text) in [(3, "a"), (0, "a"), (1, "b"), (2, "c"), (1, "b")] {
        let opened = sealed[at].open(&key, &here.place()).unwrap();
        assert_eq!(opened.expose(), text.as_bytes());
    }
    // The same value at the same place is another blob each time.
    assert_ne!(sealed[0].text, sealed[3].text);
    let mixed = Sealed {
        key: sealed[1].key.clone(),
        ..sealed[0].clone()
    };
    assert_eq!(
        mixed.open(&key, &here.place()).err(),
        Some(SealError::Rejected)
    );
    let mixed = Sealed {
        salt: sealed[3].salt.clone(),
        ..sealed[0].clone()
    };
    assert_eq!(
        mixed.open(&key, &here.place()).err(),
        Some(SealError::Rejected)
    );
}

#[test]
fn keys_survive_their_bytes() {
    let key = SealingKey::generate();
    let again = SealingKey::from_bytes(key.expose()).unwrap();
    assert!(key.public() == again.public());
    let json = serde_json::to_string(&key.public()).unwrap();
    assert!(serde_json::from_str::<PublicKey>(&json).unwrap() == key.public());
    assert!(SealingKey::from_bytes(b"short").is_err());
}

#[test]
fn a_malformed_blob_is_refused() {
    let key = SealingKey::generate();
    let here = Names::new("edge-01", "1");
    let sealed = key
        .public()
        .seal(&here.place(), &Secret::new(b"hunter2".to_vec()))
        .unwrap();
    let broken = [
        Sealed {
            suite: "rot13".into(),
            ..sealed.clone()
        },
        Sealed {
            key: "AAAA".into(),
            ..sealed.clone()
        },
        Sealed {
            tag: "!".into(),
            ..sealed.clone()
        },
        Sealed {
            salt: String::new(),
            ..sealed.clone()
        },
        Sealed {
            text: "====".into(),
            ..sealed.clone()
        },
        Sealed {
            text: "A".into(),
            ..sealed.clone()
        },
        Sealed {
            text: sealed.text.replace('=', "A"),
            ..sealed.clone()
        },
    ];
    for blob in broken {
        assert!(blob.open(&key, &here.place()).is_err(), "{blob:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_value_survives(value in prop::collection::vec(any::<u8>(), 0..300)) {
        let key = SealingKey::generate();
        let here = Names::new("edge-01", "1");
        let secret = Secret::new(value.clone());
        let sealed = key.public().seal(&here.place(), &secret).unwrap();
        let mut room = [0; 300];
        let opened = sealed.open_into(&key, &here.place(), &mut room).unwrap();
        prop_assert_eq!(&*opened, &value[..]);
    }
}
