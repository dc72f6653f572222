//! `edge-secrets service …`

use edge_secrets_hub::wire::{Published, ServiceInfo, paths};
use http::Method;

use super::{Session, changes};
use crate::cli::{ServiceArgs, ServiceCommand, ServicePolicyCommand};
use crate::client::{Target, at};
use crate::error::Error;
use crate::input::read_document;
use crate::output::Table;
use crate::times::age;

pub(super) async fn run(command: ServiceCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        ServiceCommand::Publish { file, dry_run } => publish(&file, dry_run, session).await,
        ServiceCommand::List => list(session).await,
        ServiceCommand::Show(args) => show(&args, session).await,
        ServiceCommand::Rm(args) => remove(&args, session).await,
        ServiceCommand::Policy(command) => own_policy(command, session).await,
    }
}

/// `edge-secrets service policy …`
async fn own_policy(command: ServicePolicyCommand, session: &mut Session<'_>) -> Result<(), Error> {
    let (name, published) = match command {
        ServicePolicyCommand::Show(args) => {
            let (_, target) = find(&args, session, paths::SERVICE_POLICY).await?;
            return show_document(target, session).await;
        }
        ServicePolicyCommand::Set {
            service,
            file,
            dry_run,
        } => {
            let document = read_document(&file.as_str().into(), session.ui)?;
            let (name, target) = find(&service, session, paths::SERVICE_POLICY).await?;
            let target = target.with("dry_run", dry_run);
            let published: Published = session
                .client
                .send_document(Method::PUT, target, document.media_type, document.body)
                .await
                .map_err(|error| error.about(&document.name))?;
            (name, published)
        }
        ServicePolicyCommand::Rm { service, dry_run } => {
            let (name, target) = find(&service, session, paths::SERVICE_POLICY).await?;
            if !dry_run {
                let question = format!("Remove the policy of service {name}?");
                session.ui.confirm(&question)?;
            }
            let target = target.with("dry_run", dry_run);
            (name, session.client.ask(Method::DELETE, target).await?)
        }
    };
    let did = format!("The policy of service {name} is changed");
    let would = format!("Changing the policy of service {name}");
    changes::show(&published, &did, &would, session.ui)
}

async fn publish(file: &str, dry_run: bool, session: &mut Session<'_>) -> Result<(), Error> {
    let document = read_document(&file.into(), session.ui)?;
    let target = at(paths::SERVICES, &[session.client.org().as_str()]).with("dry_run", dry_run);
    let published: Published = session
        .client
        .send_document(Method::POST, target, document.media_type, document.body)
        .await
        .map_err(|error| error.about(&document.name))?;
    changes::show(
        &published,
        "The service definition is published",
        "Publishing the service definition",
        session.ui,
    )
}

async fn list(session: &mut Session<'_>) -> Result<(), Error> {
    let services = fetch(session).await?;
    session
        .ui
        .show_list(&services, "There are no service definitions.", |now| {
            let mut table =
                Table::new(["SERVICE", "VERSION", "ARCH", "SECRETS", "OWNER", "UPDATED"]);
            for service in &services {
                let secrets: Vec<_> = service.secrets.iter().map(ToString::to_string).collect();
                table.row([
                    service.url.to_string(),
                    service.version.clone(),
                    service.arch.clone(),
                    secrets.join(", "),
                    service.owner.to_string(),
                    age(service.updated_at, now),
                ]);
            }
            table.render()
        })
}

async fn show(args: &ServiceArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let (_, target) = find(args, session, paths::SERVICE).await?;
    show_document(target, session).await
}

async fn show_document(target: Target, session: &mut Session<'_>) -> Result<(), Error> {
    // A YAML value keeps the order in which the definition was written.
    let document: serde_yaml::Value = session.client.get(target).await?;
    session.ui.show(&document, |_| {
        serde_yaml::to_string(&document).unwrap_or_default()
    })
}

async fn remove(args: &ServiceArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let (name, target) = find(args, session, paths::SERVICE).await?;
    session
        .ui
        .confirm(&format!("Remove the definition of service {name}?"))?;
    let published: Published = session.client.ask(Method::DELETE, target).await?;
    changes::show(
        &published,
        &format!("The definition of service {name} is removed"),
        &format!("Removing the definition of service {name}"),
        session.ui,
    )
}

/// The one definition that is meant.
async fn find(
    args: &ServiceArgs,
    session: &mut Session<'_>,
    path: &'static str,
) -> Result<(String, Target), Error> {
    let services = fetch(session).await?;
    let service = choose(args, session.client.org().as_str(), &services)?;
    let target = at(path, &[session.client.org().as_str()])
        .with("url", &service.url)
        .with("version", &service.version)
        .with("arch", &service.arch);
    Ok((describe(service), target))
}

async fn fetch(session: &mut Session<'_>) -> Result<Vec<ServiceInfo>, Error> {
    let target = at(paths::SERVICES, &[session.client.org().as_str()]);
    session.client.get(target).await
}

fn choose<'s>(
    args: &ServiceArgs,
    org: &str,
    services: &'s [ServiceInfo],
) -> Result<&'s ServiceInfo, Error> {
    let own = args
        .url
        .strip_prefix(org)
        .and_then(|url| url.strip_prefix('/'));
    let wanted = |service: &&ServiceInfo| {
        let url = service.url.as_str();
        (url == args.url || Some(url) == own)
            && args
                .version
                .as_ref()
                .is_none_or(|version| *version == service.version)
            && args.arch.as_ref().is_none_or(|arch| *arch == service.arch)
    };
    let found: Vec<_> = services.iter().filter(wanted).collect();
    match found.as_slice() {
        [service] => Ok(service),
        [] => Err(Error::Failed(format!(
            "there is no such definition of service {}; `edge-secrets service list` shows all",
            args.url
        ))),
        several => {
            let several: Vec<_> = several.iter().map(|service| describe(service)).collect();
            Err(Error::Usage(format!(
                "service {} has several definitions, say which with --version and --arch: {}",
                args.url,
                several.join("; ")
            )))
        }
    }
}

fn describe(service: &ServiceInfo) -> String {
    match service.arch.as_str() {
        "" => format!("{} {}", service.url, service.version),
        arch => format!("{} {} {arch}", service.url, service.version),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_must_be_meant_alone() {
        let service = |url: &str, version: &str, arch: &str| {
            serde_json::from_value(json!({
                "url": url, "version": version, "arch": arch, "secrets": [], "owner": "alice",
                "updated_at": "2026-03-01T12:00:00Z",
            }))
            .unwrap()
        };
        let services = [
            service("a", "1.0.0", "amd64"),
            service("a", "1.0.0", "arm64"),
            service("b/c", "2.0.0", ""),
        ];
        let choice = |url: &str, version: Option<&str>, arch: Option<&str>| {
            let args = ServiceArgs {
                url: url.to_owned(),
                version: version.map(str::to_owned),
                arch: arch.map(str::to_owned),
            };
            choose(&args, "myorg", &services)
                .map(describe)
                .map_err(|error| (error.exit_code(), error.to_string()))
        };
        assert_eq!(choice("b/c", None, None).unwrap(), "b/c 2.0.0");
        assert_eq!(choice("myorg/b/c", None, None).unwrap(), "b/c 2.0.0");
        assert_eq!(choice("a", None, Some("arm64")).unwrap(), "a 1.0.0 arm64");
        assert_eq!(choice("a", Some("9"), None).unwrap_err().0, 1);
        let (code, text) = choice("a", None, None).unwrap_err();
        assert_eq!(code, 64);
        assert!(text.contains("a 1.0.0 amd64; a 1.0.0 arm64"), "{text}");
    }
}
