use proptest::prelude::*;

use super::*;

#[test]
fn a_name_that_could_leave_its_directory_is_refused() {
    for text in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\0b",
        "..data",
        "a\nb",
        &"x".repeat(201),
    ] {
        assert!(text.parse::<SecretName>().is_err(), "{text:?}");
    }
    for text in ["", ".", "..", ".hidden", "a/b", "a b", "ä", "a\0"] {
        assert!(text.parse::<OrgId>().is_err(), "{text:?}");
        assert!(text.parse::<NodeId>().is_err(), "{text:?}");
        assert!(text.parse::<ConsumerName>().is_err(), "{text:?}");
    }
}

#[test]
fn names_of_existing_installations_are_accepted() {
    assert!("e2edev@somecomp.com".parse::<OrgId>().is_ok());
    assert!("myCloudServiceCred".parse::<SecretName>().is_ok());
    assert!("schlüssel.pem".parse::<SecretName>().is_ok());
    assert!(
        "https://bluehorizon.network/services/gps"
            .parse::<ServiceUrl>()
            .is_ok()
    );
}

#[test]
fn an_error_names_the_kind_and_shortens_the_text() {
    let error = "x/"
        .repeat(100)
        .parse::<SecretName>()
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("secret name \"x/x/"), "{error}");
    assert!(error.chars().count() < 120, "{error}");
}

#[test]
fn urls_never_share_a_directory() {
    let dir = |url: &str| url.parse::<ServiceUrl>().unwrap().dir_name();
    assert_eq!(dir("com.example.uplink"), "com.example.uplink");
    assert_eq!(dir("https://a/b"), "https%3A%2F%2Fa%2Fb");
    assert_ne!(dir("a/b"), dir("a%2Fb"));
    assert_eq!(dir("..x"), "%2E.x");
}

#[test]
fn a_generation_survives_its_etag() {
    assert_eq!(
        Generation::from_etag(&Generation(42).etag()),
        Some(Generation(42))
    );
    assert_eq!(Generation::from_etag("42"), None);
    assert_eq!(Generation::from_etag("W/\"42\""), None);
}

proptest! {
    #[test]
    fn what_parses_prints_itself(text in "\\PC{0,220}") {
        if let Ok(name) = text.parse::<SecretName>() {
            prop_assert_eq!(name.to_string(), text.clone());
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<SecretName>(&json).unwrap(), name);
        }
        if let Ok(name) = text.parse::<ServiceUrl>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn a_secret_name_is_one_plain_path_component(text in any::<String>()) {
        if let Ok(name) = text.parse::<SecretName>() {
            let path = std::path::Path::new(name.as_str());
            let parts: Vec<_> = path.components().collect();
            prop_assert_eq!(parts.len(), 1);
            prop_assert!(matches!(parts[0], std::path::Component::Normal(_)));
        }
    }

    #[test]
    fn a_directory_name_is_one_plain_path_component(text in "[!-~]{1,200}") {
        if let Ok(url) = text.parse::<ServiceUrl>() {
            let dir = url.dir_name();
            prop_assert!(dir.len() <= 255 && !dir.contains('/') && !dir.starts_with('.'));
        }
    }
}
