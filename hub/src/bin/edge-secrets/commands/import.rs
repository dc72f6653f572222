//! `edge-secrets import …`: files of Open Horizon, published as they are.
//!
//! What a file is, what its variables stand for, in which order documents go and what is said of them
//! is decided by pure functions; here files are read and the hub is asked.

use std::path::Path;

use edge_secrets_hub::wire::HubInfo;
use nix::fcntl::OFlag;

use super::Session;
use crate::cli::{ImportCommand, OpenHorizonArgs};
use crate::error::Error;
use crate::output::count;

use assemble::{Assembly, assemble};
use files::Found;
use publish::Import;
use report::Report;
use understand::Reading;
use variables::{Config, Values, Variables};

mod assemble;
mod check;
mod differences;
mod files;
mod hub;
mod merge;
mod names;
mod order;
mod publish;
mod recognise;
mod report;
mod substitute;
mod understand;
mod variables;

pub(super) async fn run(command: ImportCommand, session: &mut Session<'_>) -> Result<(), Error> {
    let ImportCommand::OpenHorizon(args) = command;
    let info = session.hub_info().await?;
    let assembly = read(&args, &info)?;
    let mut import = Import {
        args: &args,
        info: &info,
        report: Report {
            dry_run: args.dry_run,
            left: assembly.left,
            refused: assembly.refused,
            ..Report::default()
        },
    };
    let failed = import.work_out(&assembly.understood, session).await?;
    import.report.left.sort_by(|a, b| a.file.cmp(&b.file));
    let report = &import.report;
    session.ui.show(report, |_| report.render())?;
    match (failed, report.refused.len()) {
        (Some(error), _) => Err(error),
        (None, 0) => Ok(()),
        (None, refused) => Err(Error::Failed(format!(
            "{} refused{}",
            count(refused, "thing"),
            match (args.dry_run, args.keep_going) {
                (false, false) => ", so nothing was published; --keep-going publishes the rest",
                _ => "",
            }
        ))),
    }
}

/// Reads the files.
fn read(args: &OpenHorizonArgs, info: &HubInfo) -> Result<Assembly, Error> {
    let found = Found::gather(&args.paths)?;
    let variables = Variables {
        flags: pairs("--var", &args.vars)?,
        // What is no text can be in no document.
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        defaults: [
            ("ARCH".to_owned(), variables::architecture().to_owned()),
            ("HZN_ORG_ID".to_owned(), info.org.to_string()),
        ]
        .into(),
    };
    let names = pairs("--name", &args.names)?;
    let config = args.hzn_json.as_deref().map(read_config).transpose()?;
    let reading = Reading {
        org: &info.org,
        variables: &variables,
        allow_undefined: args.allow_undefined,
        names: &names,
    };
    Ok(assemble(&found, &reading, config.as_ref()))
}

fn read_config(file: &Path) -> Result<Config, Error> {
    let shown = file.display();
    let text = files::read(file, OFlag::empty())
        .map_err(|error| Error::Usage(format!("{shown}: {error}")))?
        .ok_or_else(|| Error::Usage(format!("{shown}: is too large, or no text")))?;
    Config::read(&text).map_err(|fault| {
        let line = fault
            .line
            .map(|line| format!(":{line}"))
            .unwrap_or_default();
        Error::Usage(format!("{shown}{line}: {}", fault.reason))
    })
}

fn pairs(option: &str, texts: &[String]) -> Result<Values, Error> {
    let pair = |text: &String| {
        let pair = variables::pair(text);
        pair.map_err(|reason| Error::Usage(format!("{option}: {reason}")))
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests;
