use std::fs;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::*;

fn shell(script: &str, arguments: &[&str]) -> Vec<String> {
    let start = ["/bin/sh", "-c", script];
    let all = start.iter().chain(arguments);
    all.map(|argument| (*argument).to_owned()).collect()
}

async fn refused(argv: &[String], user: Option<&Principal>) -> String {
    run(argv, user).await.unwrap_err().0
}

#[tokio::test]
async fn a_command_gets_its_arguments_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let script = "cat /proc/$$/cmdline >$0.argv; cat /proc/$$/environ >$0.env; pwd >$0.cwd; \
                  cat >$0.stdin; echo printed";
    let prefix = path("seen").display().to_string();
    let argv = shell(script, &[&prefix, "one", "two words"]);
    run(&argv, None).await.unwrap();
    let words = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(path(name)).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    };
    assert_eq!(words("seen.argv"), argv);
    let home = User::from_uid(geteuid()).unwrap();
    let home = home.map_or_else(|| "/".into(), |account| account.dir);
    let mut environment = words("seen.env");
    environment.sort();
    let expected = [
        format!("HOME={}", home.display()),
        "LANG=C".to_owned(),
        format!("PATH={SEARCH_PATH}"),
    ];
    assert_eq!(environment, expected);
    assert_eq!(fs::read_to_string(path("seen.cwd")).unwrap(), "/\n");
    assert_eq!(fs::read_to_string(path("seen.stdin")).unwrap(), "");
}

#[tokio::test]
async fn a_command_that_fails_says_how() {
    let said = refused(&shell("exit 3", &[]), None).await;
    assert_eq!(said, "/bin/sh ended with exit code 3");
    let said = refused(&shell("kill -TERM $$", &[]), None).await;
    assert_eq!(said, "/bin/sh was ended by SIGTERM");
    let said = refused(&["/nowhere/program".to_owned()], None).await;
    assert!(
        said.starts_with("/nowhere/program cannot be started: "),
        "{said}"
    );
    let said = refused(&["sh".to_owned()], None).await;
    assert!(said.contains("not an absolute path"), "{said}");
    assert_eq!(refused(&[], None).await, "the command is empty");
}

#[tokio::test]
async fn a_user_that_is_not_there_is_named() {
    let nobody = Principal::Name("no-such-user-here".to_owned());
    let said = refused(&shell("true", &[]), Some(&nobody)).await;
    assert!(said.contains("no user no-such-user-here"), "{said}");
}

#[tokio::test]
async fn the_own_user_may_be_named_without_being_root() {
    let own = Principal::Id(geteuid().as_raw());
    if User::from_uid(geteuid()).unwrap().is_some() {
        run(&shell("true", &[]), Some(&own)).await.unwrap();
    }
}

#[tokio::test]
async fn only_root_runs_commands_as_root() {
    let result = run(&shell("true", &[]), Some(&Principal::Id(0))).await;
    if geteuid().is_root() {
        assert_eq!(result, Ok(()));
    } else {
        let said = result.unwrap_err().0;
        assert!(said.starts_with("only root can run /bin/sh as "), "{said}");
    }
}

/// A writer of the pipe is left for as long as any process of the command lives.
#[tokio::test]
async fn a_command_that_is_given_up_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let mut reader = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    let writer = pipe::OpenOptions::new().open_sender(&path).unwrap();
    let script = "exec 3>$0; (sleep 3600; :) & sleep 3600 & echo ready >&3; wait";
    let argv = shell(script, &[path.to_str().unwrap()]);
    let mut said = [0; 6];
    tokio::select! {
        ended = run(&argv, None) => panic!("ended before it was given up: {ended:?}"),
        read = reader.read_exact(&mut said) => assert_eq!(read.unwrap(), 6),
    }
    assert_eq!(&said, b"ready\n");
    drop(writer);
    let mut rest = Vec::new();
    let read = timeout(HANGS, reader.read_to_end(&mut rest)).await;
    assert_eq!(read.expect("a process lives on").unwrap(), 0);
}

#[tokio::test]
#[ignore = "needs root: runs a command as another user"]
async fn root_runs_commands_as_another_user_without_its_own_groups() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status");
    fs::write(&path, "").unwrap();
    let account = User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
    for place in [dir.path(), &path] {
        std::os::unix::fs::chown(place, Some(uid), Some(gid)).unwrap();
    }
    let argv = shell(
        "grep -E '^(Uid|Gid|Groups)' /proc/$$/status >$0",
        &[path.to_str().unwrap()],
    );
    for user in [Principal::Name("nobody".to_owned()), Principal::Id(uid)] {
        fs::write(&path, "").unwrap();
        run(&argv, Some(&user)).await.unwrap();
        let seen = fs::read_to_string(&path).unwrap();
        let seen: Vec<&str> = seen.lines().map(str::trim_end).collect();
        let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
        assert_eq!(
            seen,
            [
                format!("Uid:\t{}", four(uid)),
                format!("Gid:\t{}", four(gid)),
                "Groups:".to_owned(),
            ]
        );
    }
}

/// How long until a test that waits in vain says so.
const HANGS: Duration = Duration::from_secs(60);
