//! What is known of a secret: as options, and as text.

use edge_secrets_hub::metadata::{Labels, MetaChange};
use edge_secrets_hub::wire::SecretInfo;
use jiff::Timestamp;

use crate::cli::{MetaArgs, Setting};
use crate::error::Error;
use crate::output::Table;
use crate::times::{Until, age};

/// The change that the options ask for.
///
/// # Errors
/// When there are too many labels.
pub(super) fn change(args: &MetaArgs, now: Timestamp) -> Result<MetaChange, Error> {
    let labels = match (args.labels.as_slice(), args.no_labels) {
        ([], false) => None,
        (labels, _) => Some(
            Labels::try_from(labels.to_vec()).map_err(|error| Error::Usage(error.to_string()))?,
        ),
    };
    let end = |setting: Setting<Until>| Option::from(setting).map(|end: Until| end.resolve(now));
    Ok(MetaChange {
        labels,
        description: args.description.clone(),
        expires_at: args.expires.map(end),
        max_versions: args.max_versions.map(Option::from),
        rotate_every: args.rotate_every.map(Option::from),
    })
}

/// All of it, line by line.
pub(super) fn facts(secret: &SecretInfo, now: Timestamp) -> String {
    let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
    let meta = &secret.meta;
    let expires = meta.expires_at.map(|end| {
        let gone = if secret.expired {
            ": no node gets it"
        } else {
            ""
        };
        format!("{end} ({}){gone}", age(end, now))
    });
    let rotation = meta.rotate_every.zip(secret.rotation_due_at);
    let rotation = rotation.map(|(every, due)| {
        if due <= now {
            format!("every {every}, {}", due_since(due))
        } else {
            format!("every {every}, due {}", age(due, now))
        }
    });
    let versions = meta.max_versions.map(|most| format!("the last {most}"));
    let generator = secret.generator.as_ref().map(ToString::to_string);
    Table::facts([
        ("secret", secret.reference.to_string()),
        ("version", secret.version.to_string()),
        ("fields", secret.fields.join(", ")),
        ("created", age(secret.created_at, now)),
        (
            "updated",
            format!("{} by {}", age(secret.updated_at, now), secret.updated_by),
        ),
        ("labels", meta.labels.to_string()),
        ("description", meta.description.as_str().to_owned()),
        ("expires", or(expires, "never")),
        ("rotation", or(rotation, "no reminder")),
        ("versions kept", or(versions, "all")),
        ("generated", generator.unwrap_or_default()),
    ])
}

/// What somebody should look after, in a few words; empty where there is nothing.
pub(super) fn due(secret: &SecretInfo, now: Timestamp) -> String {
    let mut words = Vec::new();
    if let Some(end) = secret.meta.expires_at {
        let verb = if secret.expired { "expired" } else { "expires" };
        words.push(format!("{verb} {}", age(end, now)));
    }
    if let Some(due) = secret.rotation_due_at.filter(|due| *due <= now) {
        words.push(due_since(due));
    }
    words.join(", ")
}

fn due_since(due: Timestamp) -> String {
    format!("rotation due since {}", due.strftime("%Y-%m-%d"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command, SecretCommand};

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn edit(options: &str) -> Result<MetaChange, Error> {
        let line = format!("edge-secrets secret edit db {options}");
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Secret(SecretCommand::Edit { meta, .. }) = cli.command else {
            panic!("{cli:?}");
        };
        change(&meta, now())
    }

    #[test]
    fn options_are_a_change_and_what_is_not_given_stays() {
        assert!(edit("").unwrap().is_empty());
        let all = edit(
            "--label prod --label db --description x --expires 30d --max-versions 10 \
             --rotate-every 90d",
        );
        let wanted = json!({
            "labels": ["db", "prod"], "description": "x", "expires_at": "2026-03-31T12:00:00Z",
            "max_versions": 10, "rotate_every_seconds": 90 * 86_400,
        });
        assert_eq!(serde_json::to_value(all.unwrap()).unwrap(), wanted);
        let none =
            edit("--no-labels --expires never --max-versions unlimited --rotate-every never");
        let wanted = json!({
            "labels": [], "expires_at": null, "max_versions": null, "rotate_every_seconds": null,
        });
        assert_eq!(serde_json::to_value(none.unwrap()).unwrap(), wanted);
        let many: String = (0..31).map(|n| format!("--label l{n} ")).collect();
        let refused = edit(&many).unwrap_err();
        assert_eq!(refused.exit_code(), 64);
        assert!(refused.to_string().contains("30"), "{refused}");
    }

    #[test]
    fn what_to_look_after_stands_in_lists_and_alone() {
        let mut secret: SecretInfo = serde_json::from_value(json!({
            "reference": "db", "version": "3", "created_at": now(), "updated_at": now(),
            "updated_by": "alice",
        }))
        .unwrap();
        assert_eq!(due(&secret, now()), "");
        let text = facts(&secret, now());
        assert!(
            text.contains("never") && text.contains("no reminder"),
            "{text}"
        );

        secret.meta.expires_at = Some("2026-03-06T12:00:00Z".parse().unwrap());
        secret.meta.rotate_every = Some(86_400.try_into().unwrap());
        secret.rotation_due_at = Some("2026-03-02T12:00:00Z".parse().unwrap());
        assert_eq!(due(&secret, now()), "expires in 5d");
        let text = facts(&secret, now());
        assert!(text.contains("every 1d, due in 1d"), "{text}");

        secret.expired = true;
        let later = "2026-03-07T12:00:00Z".parse().unwrap();
        let words = "expired 1d ago, rotation due since 2026-03-02";
        assert_eq!(due(&secret, later), words);
        let text = facts(&secret, later);
        assert!(text.contains("(1d ago): no node gets it"), "{text}");
        assert!(
            text.contains("every 1d, rotation due since 2026-03-02"),
            "{text}"
        );
    }
}
