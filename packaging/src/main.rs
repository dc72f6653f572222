//! `package-assets DIR` writes man pages and completions of every program:
//!
//! ```text
//! DIR/agent/man/*.1  DIR/agent/bash/NAME  DIR/agent/zsh/_NAME  DIR/agent/fish/NAME.fish
//! DIR/hub/...        both programs of the hub's package
//! ```
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(dir), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("usage: package-assets DIR");
        return ExitCode::from(64);
    };
    match write_all(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(dir: &Path) -> io::Result<()> {
    write(&dir.join("agent"), edge_secrets_agent::cli::command())?;
    let hub = dir.join("hub");
    write(&hub, edge_secrets_hub::cli::Cli::command())?;
    write(&hub, edge_secrets_hub::operator::cli::Cli::command())
}

fn write(dir: &Path, mut command: Command) -> io::Result<()> {
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    // First: completing adds `help` to the command.
    clap_mangen::generate_to(without_help(command.clone()), man)?;
    let name = command.get_name().to_owned();
    for (shell, place) in SHELLS {
        let place = dir.join(place);
        fs::create_dir_all(&place)?;
        // The file's name must be the program's: bash loads a completion by it.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut script);
        fs::write(place.join(file_name(shell, &name)), script)?;
    }
    Ok(())
}

/// `help` shows what the pages themselves say: it gets none of its own.
fn without_help(command: Command) -> Command {
    command
        .disable_help_subcommand(true)
        .mut_subcommands(without_help)
}

fn file_name(shell: Shell, program: &str) -> String {
    match shell {
        Shell::Zsh => format!("_{program}"),
        Shell::Fish => format!("{program}.fish"),
        _ => program.to_owned(),
    }
}

const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash"),
    (Shell::Zsh, "zsh"),
    (Shell::Fish, "fish"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_page_for_each_command_and_completions() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path()).unwrap();
        for file in [
            "agent/man/edge-secrets-agent.1",
            "agent/man/edge-secrets-agent-mount.1",
            "agent/bash/edge-secrets-agent",
            "hub/man/edge-secrets-hub-serve.1",
            "hub/man/edge-secrets-secret-set.1",
            "hub/zsh/_edge-secrets",
            "hub/fish/edge-secrets-hub.fish",
        ] {
            let text = fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(text.contains("edge"), "{file}");
        }
        for file in [
            "agent/man/edge-secrets.1",
            "hub/man/edge-secrets-secret-help.1",
        ] {
            assert!(!dir.path().join(file).exists(), "{file}");
        }
    }
}
