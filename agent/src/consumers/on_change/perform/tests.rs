use std::sync::Mutex;

use super::*;

/// Writes down what is asked of it, and refuses what it is told to.
#[derive(Debug, Default)]
struct Records {
    asked: Mutex<Vec<String>>,
    refuses: bool,
}

impl Records {
    fn note(&self, asked: String) -> Result<(), &'static str> {
        self.asked.lock().unwrap().push(asked);
        if self.refuses {
            Err("not today")
        } else {
            Ok(())
        }
    }
}

impl Units for Records {
    type Error = &'static str;

    async fn reload(&self, unit: &UnitName) -> Result<(), Self::Error> {
        self.note(format!("reload {unit}"))
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), Self::Error> {
        self.note(format!("restart {unit}"))
    }

    async fn try_restart(&self, unit: &UnitName) -> Result<(), Self::Error> {
        self.note(format!("try-restart {unit}"))
    }

    async fn signal_main(&self, unit: &UnitName, signal: SignalName) -> Result<(), Self::Error> {
        self.note(format!("{signal} {unit}"))
    }

    async fn run(
        &self,
        description: &str,
        argv: &[String],
        user: Option<&Principal>,
        timeout: Duration,
    ) -> Result<(), Self::Error> {
        self.note(format!("{description} | {argv:?} {user:?} {timeout:?}"))
    }
}

impl Engines for Records {
    type Error = &'static str;

    async fn signal(
        &self,
        container: &ContainerName,
        signal: SignalName,
    ) -> Result<(), Self::Error> {
        self.note(format!("{signal} {container}"))
    }
}

fn host(refuses: bool, commands: Commands) -> Host<Records, Records> {
    let records = || Records {
        refuses,
        ..Records::default()
    };
    Host::new(records(), records(), commands)
}

fn command() -> Action {
    Action::Command {
        argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), "exit 4".to_owned()],
        user: None,
    }
}

fn every_action() -> [Action; 6] {
    let unit = || "a.service".parse().unwrap();
    [
        Action::Reload(unit()),
        Action::Restart(unit()),
        Action::TryRestart(unit()),
        Action::SignalUnit(unit(), "HUP".parse().unwrap()),
        Action::SignalContainer("web".parse().unwrap(), "USR1".parse().unwrap()),
        command(),
    ]
}

#[tokio::test]
async fn each_action_is_asked_of_whom_it_concerns() {
    let host = host(false, Commands::Transient);
    for action in every_action() {
        host.perform(&action, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(
        *host.units.asked.lock().unwrap(),
        [
            "reload a.service",
            "restart a.service",
            "try-restart a.service",
            "SIGHUP a.service",
            "On-change action of edge-secrets: run /bin/sh | \
         [\"/bin/sh\", \"-c\", \"exit 4\"] None 5s",
        ]
    );
    assert_eq!(*host.engines.asked.lock().unwrap(), ["SIGUSR1 web"]);
}

#[tokio::test]
async fn a_refusal_is_told_as_it_is() {
    let host = host(true, Commands::Transient);
    for action in every_action() {
        let refused = host.perform(&action, Duration::from_secs(5)).await;
        assert_eq!(refused, Err(ActionError("not today".to_owned())));
    }
}

#[tokio::test]
async fn without_systemd_commands_run_directly() {
    let host = host(false, Commands::Direct);
    let failed = host.perform(&command(), Duration::from_secs(5)).await;
    let expected = "/bin/sh ended with exit code 4".to_owned();
    assert_eq!(failed, Err(ActionError(expected)));
    assert!(host.units.asked.lock().unwrap().is_empty());
}
